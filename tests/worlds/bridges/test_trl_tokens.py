"""The TRL bridge's tokens, masks and rewards, as TRL's own tool loop makes them of scripted messages.

By design two things are other than in ``gelert.worlds.rollout``. TRL's prompt tells the tools by the model's chat
template, not by Gelert's text. And a message that cannot be read is an answer to TRL: it ends the episode, and is
learnt.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from gelert.lm import toy
from gelert.worlds.bridges.trl import TrlWorlds
from gelert.worlds.episode import changed
from gelert.worlds.tasks import begin
from tests.worlds.bridges.contract import parts
from tests.worlds.bridges.tokens import END, NAMES, TASKS, Record, answered, byte_letters, generated, golden, spans

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's own use of names that transformers retires

BRIDGE = TrlWorlds(TASKS)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Record]:
    """The golden episodes through ``GRPOTrainer``, each by two rollouts of a batch, which must come out alike."""
    import trl
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    letters = byte_letters()
    messages: list[str] = []
    earned: list[tuple[float | None, dict[str, float], Any]] = []

    class Scripted(GRPOTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *_images: Any, **_told: Any) -> Any:
            said = messages.pop(0)
            return [generated(letters, said) for _ in prompt_ids], None

    def total(completions: Any, environments: Any, **_columns: Any) -> list[float | None]:
        for completion, environment in zip(completions, environments, strict=True):
            told: dict[str, float] = {}
            (one,) = BRIDGE.reward([completion], [environment], log_metric=told.__setitem__)
            apart = parts({name.removeprefix("worlds/"): value for name, value in told.items()})
            earned.append((one, apart, changed(environment._episode)))
        return [one for one, _, _ in earned]

    tokenizer = toy.byte_tokenizer()
    tokenizer.pad_token = toy.SPECIALS[0]
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text()
    tiny: Any = toy.config("llama", layers=1, width=32)
    tiny.update({"max_position_embeddings": 16384, "pad_token_id": 0})
    environments: Any = BRIDGE.environments
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        trainer: Any = Scripted(
            model=LlamaForCausalLM(tiny),
            processing_class=tokenizer,
            args=GRPOConfig(
                output_dir=str(tmp_path_factory.mktemp("trl")),
                use_cpu=True,
                bf16=False,
                num_generations=2,
                per_device_train_batch_size=2,
                max_completion_length=4096,
                report_to=[],
            ),
            train_dataset=Dataset.from_list(BRIDGE.rows),
            environment_factory=environments,
            reward_funcs=[total],
        )
    found: dict[str, Record] = {}
    for name in NAMES:
        own = golden()[name]
        messages[:], earned[:] = own.said, []
        row = next(row for row in BRIDGE.rows if row["task"] == own.task)
        with torch.no_grad():
            batch = trainer._generate_and_score_completions([row, row])
        (found[name], twin) = (record(batch, at, own, *earned[at]) for at in range(2))
        assert found[name] == twin
    return found


def record(batch: Any, at: int, own: Record, total: Any, apart: dict[str, float], changes: Any) -> Record:
    """What became of a rollout."""
    letters, seen = byte_letters(), batch["completion_mask"][at].bool()
    prompt = batch["prompt_ids"][at][batch["prompt_mask"][at].bool()].tolist()
    completion, mask = batch["completion_ids"][at][seen].tolist(), batch["tool_mask"][at][seen].tolist()
    return Record(own.task, own.said, letters.decode(prompt), spans(letters, completion, mask), total, apart, changes)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "malformed"])
def test_an_episode_comes_out_as_the_golden_one(name: str, played: Mapping[str, Record]) -> None:
    own, found = golden()[name], played[name]
    assert found.spans == own.spans
    assert (found.total, found.parts, found.changes) == (own.total, own.parts, own.changes)


def test_the_prompt_tells_the_tools_by_the_chat_template(played: Mapping[str, Record]) -> None:
    for name in NAMES:
        begun = begin(next(task for task in TASKS if task.name == golden()[name].task))
        told = played[name].prompt
        assert told.startswith(f"<|im_start|>system\n{begun.policy}\n\n# Tools\n")
        assert told.endswith(f"{END}\n<|im_start|>user\n{begun.goal}{END}\n<|im_start|>assistant\n")
        assert golden()[name].prompt.endswith(told[told.index(f"{END}\n<|im_start|>user") :])


def test_a_message_that_cannot_be_read_is_an_answer_to_trl(played: Mapping[str, Record]) -> None:
    found = played["malformed"]
    assert found == answered(found.prompt)
    assert found.total < golden()["malformed"].total
