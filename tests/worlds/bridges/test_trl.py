"""The TRL bridge against TRL and transformers themselves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import get_json_schema

from gelert.worlds.bridges.trl import Environment, TrlWorlds
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode, changed
from gelert.worlds.tasks import begin, tasks
from tests.worlds.bridges.contract import TASKS, End, holds, parts
from tests.worlds.small import family

MAIL = [one for family in catalogue(["mail"]).values() for one in tasks(family)]
BRIDGE = TrlWorlds(MAIL)


def test_every_task_is_a_row_with_an_environment() -> None:
    assert [row["task"] for row in BRIDGE.rows] == [one.name for one in MAIL]
    assert {row["environment"] for row in BRIDGE.rows} == set(BRIDGE.environments)
    prompt: Any = BRIDGE.rows[0]["prompt"]
    assert [message["role"] for message in prompt] == ["system", "user"]


@pytest.mark.parametrize("kind", ["mail/answer_mail", next(k for k in BRIDGE.environments if "tidy_first" in k)])
def test_the_schema_that_transformers_makes_is_the_tools_own(kind: str) -> None:
    made = BRIDGE.environments[kind]()
    specs = begin(next(one for one in MAIL if BRIDGE.rows[MAIL.index(one)]["environment"] == kind)).tools
    for spec in specs:
        told = get_json_schema(getattr(made, spec.name))["function"]
        own = json.loads(spec.parameters)
        assert (told["name"], told["description"]) == (spec.name, spec.description)
        assert told["parameters"].get("required", []) == own["required"]
        assert {name: one["type"] for name, one in told["parameters"]["properties"].items()} == {
            name: one["type"] for name, one in own["properties"].items()
        }


def test_episodes_end_as_without_trl() -> None:
    bridge = TrlWorlds(TASKS)

    def through(episodes: Sequence[Episode]) -> list[End]:
        found: list[End] = []
        for own in episodes:
            row: dict[str, Any] = next(row for row in bridge.rows if row["task"] == own.beginning.task.name)
            made = bridge.environments[row["environment"]]()
            made.reset(**row)
            results = [getattr(made, call.tool)(**json.loads(call.arguments)) for call in own.calls]
            said = [{"role": "tool", "content": "x"}, {"role": "assistant", "content": own.answer}]
            logged: dict[str, float] = {}
            (total,) = bridge.reward([said], [made], log_metric=logged.__setitem__)
            told = parts({name.removeprefix("worlds/"): value for name, value in logged.items()})
            changes = changed(made._episode)  # pyright: ignore[reportPrivateUsage]  # public names are tools
            found.append(End(results, total or 0.0, told, changes))
        return found

    holds(through)


def test_an_environment_is_used_again_and_again() -> None:
    made = BRIDGE.environments["mail/answer_mail"]()
    for _ in range(2):
        made.reset(task=MAIL[0].name)
        assert isinstance(made, Environment)
        assert json.loads(made.send_mail("a@b.example", "x", "y")) == {"sent": "n1"}  # type: ignore[attr-defined]


@pytest.mark.long
@pytest.mark.real_model
@pytest.mark.filterwarnings("default")
def test_trl_takes_three_steps_in_a_world(tmp_path: Path, real_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from gelert.lm.model import load

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    model = load(real_model, dtype="float32")
    template = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"
    model.tokenizer.chat_template = template.read_text()
    bridge = TrlWorlds(list(tasks(family())))  # six tools: a short prompt
    environments: Any = bridge.environments
    config = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=3,
        num_generations=4,
        per_device_train_batch_size=4,
        max_completion_length=32,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
    )
    trainer = GRPOTrainer(
        model=model.net,
        processing_class=model.tokenizer,
        args=config,
        train_dataset=Dataset.from_list(bridge.rows),
        environment_factory=environments,
        reward_funcs=[bridge.reward],
        peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"]),
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert any("worlds/utility" in row for row in trainer.state.log_history)
