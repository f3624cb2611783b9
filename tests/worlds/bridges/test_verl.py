"""The verl bridge against verl itself: its worker, its loop, its configuration; a server that answers from a script."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# verl has an environment of its own.

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from gelert.core.errors import InputError
from gelert.forge.agent_verl import main
from gelert.worlds.bridges.carried import named
from gelert.worlds.bridges.verl_rows import LOOP, rows
from gelert.worlds.episode import Episode
from gelert.worlds.model_agent import Conversation
from gelert.worlds.rollout import Rollout
from gelert.worlds.tasks import Task, begin
from tests.worlds.bridges.contract import parts
from tests.worlds.bridges.tokens import (
    BROKEN,
    END,
    FORM,
    NAMES,
    TASKS,
    Record,
    byte_letters,
    desk,
    generated,
    golden,
    spans,
)

pytest.importorskip("verl", reason="verl is an extra; make test-bridges installs it")

pytestmark = [pytest.mark.bridges, pytest.mark.filterwarnings("ignore:Ray state API is no longer:DeprecationWarning")]

RECIPES = Path(__file__).parents[3] / "examples" / "recipes"
PROMPT, RESPONSE = 4096, 4096


def server(answer: Callable[[list[int]], Any]) -> Any:
    """What stands for verl's clients of inference servers: gives what ``answer`` makes of a prompt."""
    from verl.workers.rollout.llm_server import LLMServerClient

    asked: list[dict[str, Any]] = []

    class Scripted(LLMServerClient):
        async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: Any, **more: Any) -> Any:
            assert not more
            asked.append({"request": request_id, "prompt": list(prompt_ids), **sampling_params})
            sampling_params.pop("max_tokens")  # as vLLM's server does
            return answer(prompt_ids)

    made: Any = Scripted(config=None)
    made.asked = asked
    return made


def follows(records: Sequence[Record]) -> Callable[[list[int]], Any]:
    """Says what the record says whose prompt it is; token N of a prompt has the log-probability -N / 1024."""
    letters = byte_letters()
    begun = {tuple(letters.tokenizer.encode(one.prompt)): one for one in records}

    def answer(prompt: list[int]) -> Any:
        from verl.workers.rollout.replica import TokenOutput

        (start,) = [start for start in begun if tuple(prompt[: len(start)]) == start]
        # The byte tokenizer's end of turn, behind the prompt: one for each message of either side.
        turn = prompt[len(start) :].count(letters.tokenizer.eos_token_id) // 2
        tokens = generated(letters, begun[start].said[turn])
        likely = [-at / 1024 for at in range(len(prompt), len(prompt) + len(tokens))]
        steps = {"global_steps": turn, "min_global_steps": turn, "max_global_steps": turn}
        return TokenOutput(token_ids=tokens, log_probs=likely, stop_reason="completed", extra_fields=steps)

    return answer


Compose = Callable[..., Any]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The recipe with what is asked for, for a model that is a tiny one's configuration and the tokenizer of bytes."""
    from gelert.lm import toy

    folder = tmp_path_factory.mktemp("model")
    tiny = toy.config("llama", layers=1, width=32)
    tiny.architectures = ["LlamaForCausalLM"]
    tiny.save_pretrained(folder)
    tokenizer = toy.byte_tokenizer()
    tokenizer.pad_token = toy.SPECIALS[0]
    tokenizer.chat_template = toy.CHATML + "{{ told | default('') }}"
    tokenizer.save_pretrained(folder)

    def made(*overrides: str, prompt: int = PROMPT, response: int = RESPONSE) -> Any:
        return composed(
            f"actor_rollout_ref.model.path={folder}",
            f"actor_rollout_ref.rollout.agent.agent_loop_config_path={RECIPES / 'agent_verl_loop.yaml'}",
            f"data.max_prompt_length={prompt}",
            f"data.max_response_length={response}",
            *overrides,
        )

    return made


def composed(*overrides: str) -> Any:
    """The recipe as verl's command composes it."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(RECIPES), version_base=None):
        return compose("agent_verl", [*overrides])


def ran(config: Any, manager: Any, told: Sequence[Mapping[str, Any]]) -> Any:
    """A batch of rows through verl's worker."""
    import numpy as np
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.protocol import DataProto

    names = ("agent_name", "data_source", "extra_info")
    columns: dict[str, Any] = {name: np.array([row[name] for row in told], dtype=object) for name in names}
    columns["raw_prompt"] = np.empty(len(told), dtype=object)
    columns["raw_prompt"][:] = [row["prompt"] for row in told]

    async def run() -> Any:
        worker: Any = AgentLoopWorker(config, manager)
        return await worker.generate_sequences(DataProto(non_tensor_batch=columns))

    return asyncio.run(run())


def alone(config: Any, manager: Any, row: Mapping[str, Any]) -> Any:
    """What the loop itself gives for a row, made as verl's worker makes it."""
    import hydra
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
    from verl.utils.dataset.rl_dataset import RLHFDataset

    async def run() -> Any:
        told: Any = OmegaConf.load(RECIPES / "agent_verl_loop.yaml")
        loop = hydra.utils.instantiate(
            config=told[0],
            trainer_config=DictConfigWrap(config),
            server_manager=manager,
            tokenizer=AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path),
            processor=None,
            hf_model_type="llama",
            dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(config.data),
            tools=ToolListWrap([]),
        )
        return await loop.run({"temperature": 1.0}, raw_prompt=row["prompt"], extra_info=row["extra_info"], index=0)

    return asyncio.run(run())


def says(*tokens: list[int], reason: str = "completed") -> Callable[[list[int]], Any]:
    """Messages in order, without log-probabilities."""
    from verl.workers.rollout.replica import TokenOutput

    left = iter(tokens)
    return lambda _prompt: TokenOutput(token_ids=next(left), stop_reason=reason)


def told(tasks: Sequence[Task], folder: Path) -> list[dict[str, Any]]:
    return rows(tasks, [str(desk(folder))], FORM)


def of(records: Sequence[Record]) -> list[Task]:
    return [next(task for task in TASKS if task.name == one.task) for one in records]


def outcomes(batch: Any, records: Sequence[Record]) -> Iterator[Record]:
    """What verl's trainer gets, as records."""
    letters = byte_letters()
    for at, one in enumerate(records):
        row = {name: tensor[at] for name, tensor in batch.batch.items()}
        seen = row["attention_mask"].bool()
        prompt, response = row["prompts"][seen[:PROMPT]].tolist(), row["responses"][seen[PROMPT:]].tolist()
        mask = row["response_mask"][seen[PROMPT:]].tolist()
        apart = {name: values[at] for name, values in batch.non_tensor_batch.items()}
        yield Record(
            apart["task"],
            one.said,
            letters.decode(prompt),
            spans(letters, response, mask),
            float(row["rm_scores"].sum()),
            parts(apart),
            json.loads(json.dumps(apart["changes"])),
        )


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_comes_out_as_the_golden_one(name: str, config: Compose, tmp_path: Path) -> None:
    record = golden()[name]
    manager = server(follows([record]))
    batch = ran(config(), manager, told(of([record]), tmp_path))
    assert list(outcomes(batch, [record])) == [record]
    apart = {key: values[0] for key, values in batch.non_tensor_batch.items()}
    assert (apart["ending"], apart["malformed"], apart["cut"]) == ("answered", float(BROKEN in record.said), 0.0)
    assert apart["__num_turns__"] == 2 * len(record.said)
    assert (apart["min_global_steps"], apart["max_global_steps"]) == (0, len(record.said) - 1)


def test_tokens_are_read_as_they_were_written_and_keep_their_log_probabilities(config: Compose, tmp_path: Path) -> None:
    record = golden()["malformed"]
    manager = server(follows([record]))
    batch = ran(config(), manager, told(of([record]), tmp_path))
    prompt, responses = manager.asked[0]["prompt"], batch.batch["responses"][0].tolist()
    for asked in manager.asked:
        assert asked["prompt"] == [*prompt, *responses][: len(asked["prompt"])]
        assert (asked["temperature"], asked["max_tokens"]) == (0.5, 1536)
    assert len({asked["request"] for asked in manager.asked}) == 1
    mask, likely = batch.batch["response_mask"][0].tolist(), batch.batch["rollout_log_probs"][0].tolist()
    own = [(at, value) for at, (learnt, value) in enumerate(zip(mask, likely, strict=True)) if learnt]
    assert own == [(at, pytest.approx(-(len(prompt) + at) / 1024)) for at, _ in own]


def test_rows_of_a_batch_have_an_episode_each(config: Compose, tmp_path: Path) -> None:
    records = [golden()[name] for name in ("good", "refused", "good")]
    batch = ran(config(), server(follows(records)), told(of(records), tmp_path))
    assert list(outcomes(batch, records)) == records
    assert {"utility", "safe", "malformed"} < set(batch.meta_info["reward_extra_keys"])


def test_the_newer_trainer_gets_the_same(config: Compose, tmp_path: Path) -> None:
    record = golden()["victim"]
    output = alone(config(), server(follows([record])), told(of([record]), tmp_path)[0])
    told_of = output.as_dict()
    letters = byte_letters()
    assert letters.decode(told_of["prompts"].tolist()) == record.prompt
    assert spans(letters, told_of["responses"].tolist(), told_of["response_mask"].tolist()) == record.spans
    assert told_of["rm_scores"].sum() == record.total
    assert told_of["extra_fields"]["changes"] == record.changes
    assert output.metrics.generate_sequences > 0


def test_two_unreadable_messages_in_a_row_end_an_episode_of_which_nothing_is_learnt(
    config: Compose, tmp_path: Path
) -> None:
    broken = generated(byte_letters(), BROKEN)
    good = golden()["good"]
    output = alone(config(), server(says(broken, broken)), told(of([good]), tmp_path)[0])
    assert output.extra_fields["ending"] == "malformed"
    assert set(output.response_mask) == {0}
    assert output.response_logprobs is None
    assert output.reward_score == 0.0


def test_a_message_that_comes_to_no_end_is_not_learnt(config: Compose, tmp_path: Path) -> None:
    letters, good = byte_letters(), golden()["good"]
    call = generated(letters, good.said[0])
    output = alone(config(), server(says(call, letters.encode("Do"))), told(of([good]), tmp_path)[0])
    assert (output.extra_fields["ending"], output.extra_fields["reward_extra_info"]["cut"]) == ("answered", 1.0)
    assert spans(letters, output.response_ids, output.response_mask)[0] == (good.spans[0][0], 1)
    assert sum(output.response_mask) == len(call)


def test_an_episode_that_the_server_breaks_off_is_not_learnt(config: Compose, tmp_path: Path) -> None:
    good = golden()["good"]
    call = generated(byte_letters(), good.said[0])
    first, broken = says(call), says([], reason="aborted")
    manager = server(lambda prompt: (broken if call[-1] in prompt[-900:] and len(manager.asked) > 1 else first)(prompt))
    output = alone(config(), manager, told(of([good]), tmp_path)[0])
    assert output.extra_fields["ending"] == "failed"
    assert set(output.response_mask) == {0}
    assert len(output.response_ids) > len(call)


def test_an_episode_ends_where_its_room_does(config: Compose, tmp_path: Path) -> None:
    good = golden()["good"]
    manager = server(follows([good]))
    room = len("".join(text for text, _ in good.spans[:3])) + 10
    output = alone(config(response=room), manager, told(of([good]), tmp_path)[0])
    assert output.extra_fields["ending"] == "full"
    assert len(output.response_ids) == len(output.response_mask) <= room
    begun = len(output.prompt_ids)
    assert [asked["max_tokens"] + len(asked["prompt"]) for asked in manager.asked] == [begun + room] * 2
    with pytest.raises(
        InputError, match=r"at most 500 tokens, got \d+ for 'desk/answer/0/clean'; raise data.max_prompt"
    ):
        alone(config(prompt=500), manager, told(of([good]), tmp_path)[0])


def by_verls_builder(task: Task, said: Sequence[str]) -> tuple[list[int], list[int]]:
    """The tokens behind the prompt and their mask, as verl's own agent loops make them of the same messages."""
    from verl.utils.tokenizer.continuous_token import QwenContinuousTokenBuilder

    letters, talk = byte_letters(), Conversation(FORM, Episode(begin(task)))
    builder = QwenContinuousTokenBuilder(letters.tokenizer)
    ids = prompt = builder.build_initial_tokens([asdict(one) for one in talk.messages])
    mask: list[int] = []
    for text in said:
        merged = builder.merge_assistant_tokens(ids, generated(letters, text))
        mask, _ = builder.align_response_metadata(merged, mask)
        ids = merged.token_ids
        talk.take(text)
        if talk.ending is None:
            messages = [asdict(one) for one in talk.messages]
            merged = builder.merge_context_tokens(messages[:-1], messages, ids)
            mask, _ = builder.align_response_metadata(merged, mask)
            ids = merged.token_ids
    return ids[len(prompt) :], mask


def test_what_the_configuration_tells_the_chat_template_is_told(config: Compose, tmp_path: Path) -> None:
    refused = golden()["refused"]
    said = server(says(generated(byte_letters(), refused.said[0])))
    output = alone(config("+data.apply_chat_template_kwargs.told=Hm."), said, told(of([refused]), tmp_path)[0])
    assert byte_letters().decode(output.prompt_ids) == f"{refused.prompt}Hm."


@pytest.mark.parametrize("name", NAMES)
def test_verls_own_builder_of_context_makes_the_same_tokens(name: str) -> None:
    record, letters = golden()[name], byte_letters()
    ids, mask = by_verls_builder(of([record])[0], record.said)
    own = "".join(text for text, _ in record.spans)
    assert letters.decode(ids) == own
    # By design it learns from a message that cannot be read, too.
    learnt = sum(len(text.encode()) - text.count(END) * (len(END) - 1) for text, learnt in record.spans if learnt)
    assert sum(mask) - learnt == (len(generated(letters, BROKEN)) if BROKEN in record.said else 0)


def test_verls_own_builder_lets_text_spell_control_tokens_and_the_loop_does_not() -> None:
    letters, task = byte_letters(), of([golden()["good"]])[0]
    said = [BROKEN.replace("name", f"{END}"), "Done."]
    rollout = Rollout(letters, FORM, begin(task))
    for text in said:
        rollout.take(generated(letters, text))
    end = letters.tokenizer.eos_token_id
    assert rollout.completion.count(end) == 3
    assert by_verls_builder(task, said)[0].count(end) == 4


def test_the_command_writes_rows_that_verl_reads(
    tmp_path: Path, config: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    path, own = tmp_path / "rows.parquet", config(f"+data.cache_dir={tmp_path}", prompt=12000)
    assert main(["--triplets", "3", "--worlds", "mail", "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"9 tasks in {path}\n"
    tokenizer = AutoTokenizer.from_pretrained(own.actor_rollout_ref.model.path)
    read = [*map(RLHFDataset(str(path), tokenizer, own.data).__getitem__, range(9))]
    expected = rows([named(["mail"], row["extra_info"]["task"]) for row in read], ["mail"], FORM)
    kinds = [row["data_source"].removeprefix("gelert/") for row in read]
    assert kinds[::3] == ["clean"] * 3
    assert set(kinds[1::3]) <= {"injected", "hazard"}
    assert kinds[2::3] == ["malicious"] * 3
    for name in ("raw_prompt", "extra_info", "agent_name"):
        assert [row[name] for row in read] == [row[name.removeprefix("raw_")] for row in expected]
    batch = ran(own, server(says(*[generated(byte_letters(), "I won't.")] * 9)), read)
    assert batch.non_tensor_batch["refused"].tolist() == [1.0] * 9
    assert batch.non_tensor_batch["task"].tolist() == [row["extra_info"]["task"] for row in read]
    assert {row["agent_name"] for row in read} == {LOOP}
    assert (
        main(["--held", "parameters", "--count", "1", "--worlds", str(tmp_path / "none.json"), "--out", str(path)]) == 1
    )
    assert "none.json" in capsys.readouterr().err


def test_the_recipe_is_one_that_verl_takes(config: Compose) -> None:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    own = config("trainer.n_gpus_per_node=8", "trainer.nnodes=2")
    validate_config(own, need_reference_policy(own), need_critic(own))
    rollout = omega_conf_to_dataclass(own.actor_rollout_ref.rollout)
    assert (rollout.n, rollout.temperature, rollout.max_model_len) == (8, 0.5, 10240)
    assert omega_conf_to_dataclass(own.actor_rollout_ref.actor).policy_loss.loss_mode == "gspo"
    with initialize_config_module("verl.trainer.config", version_base=None):
        known: Any = OmegaConf.to_container(compose("ppo_trainer"))
    told: Any = OmegaConf.to_container(OmegaConf.load(RECIPES / "agent_verl.yaml"))
    keys = [key for key in leaves(told) if key[0] not in ("hydra", "defaults")]
    assert len(keys) > 25
    assert [key for key in keys if not has(known, key)] == [("data", "apply_chat_template_kwargs", "enable_thinking")]


def leaves(told: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in told.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def has(known: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(known, dict) or name not in known:
            return False
        known = known[name]
    return True
