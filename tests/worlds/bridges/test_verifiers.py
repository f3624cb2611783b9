"""The verifiers bridge against verifiers itself: its harness, its tool server over MCP, its scoring."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gelert.worlds.agents import oracle, victim
from gelert.worlds.episode import Episode
from gelert.worlds.tasks import begin
from tests.loopback import Door, Loopback, loopback
from tests.worlds.bridges import tokens
from tests.worlds.bridges.contract import TASKS, End, end, holds, parts, played

vf: Any = pytest.importorskip("verifiers.v1", reason="verifiers is an extra; make test-bridges installs it")

pytestmark = pytest.mark.bridges

__all__ = ["loopback"]

PLUGIN = """
from gelert.worlds.bridges.verifiers_env import Worlds
__all__ = ["Worlds"]
"""

AT_ONCE = '''
import asyncio
import verifiers.v1 as vf
from verifiers.v1.harnesses.utils.mcp import mcp_client

class AtOnce(vf.Harness[vf.HarnessConfig]):
    """Makes twelve calls at once, and asks no model."""
    SUPPORTS_MCP, EXECUTES_CODE, NEEDS_CONTAINER, APPENDS_SYSTEM_PROMPT = True, False, False, True

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        (url,) = mcp_urls.values()
        async def send(number):
            async with mcp_client({"url": url}) as client:
                await client.call_tool("send_mail", {"to": f"a{number}@b.example", "subject": "x", "body": "y"})
        await asyncio.gather(*map(send, range(12)))
        return vf.ProgramResult(0, "", "")

__all__ = ["AtOnce"]
'''


@pytest.fixture
def rollouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback) -> Callable[..., list[Any]]:
    """Plays tasks with a harness; gives their traces. The model's name says which task's script it follows."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # has uv
    (tmp_path / "my_worlds.py").write_text(PLUGIN)
    (tmp_path / "at_once.py").write_text(AT_ONCE)

    def run(
        names: Sequence[str],
        harness: str = "null",
        worlds: Sequence[str] = ("mail", "shop"),
        asks: Any = None,
        **agent: Any,
    ) -> list[Any]:
        seat = {"harness": {"id": harness}, "runtime": {"type": "subprocess"}, **agent}
        taskset = {"id": "my-worlds", "worlds": list(worlds)}
        env = vf.load_environment(vf.resolve_env_config({"taskset": taskset, "agent": seat}))
        tasks = {one.data.name: one for one in env.taskset}

        async def play() -> list[Any]:
            gate = asyncio.Semaphore(3)

            async def one(number: int, name: str) -> Any:
                client = asks or vf.EvalClientConfig(base_url=loopback.url, api_key_var="NONE")
                async with gate:
                    return await env.run_episode(tasks[name], vf.ModelContext(model=str(number), client=client))

            async with env.serving():
                return await asyncio.gather(*(one(number, name) for number, name in enumerate(names)))

        episodes = asyncio.run(play())
        assert [error for one in episodes for error in one.errors] == []
        return [trace for one in episodes for trace in one.traces]

    return run


def follows(episodes: Sequence[Episode]) -> Callable[[Door], None]:
    """A model that plays the episode of which its name is the number."""

    def behave(door: Door) -> None:
        asked = json.loads(door.body)
        own = episodes[int(asked["model"])]
        turn = sum(one["role"] == "assistant" for one in asked["messages"])
        if turn < len(own.calls):
            call = own.calls[turn]
            function = {"name": call.tool, "arguments": call.arguments}
            told = {"tool_calls": [{"index": 0, "id": f"c{turn}", "type": "function", "function": function}]}
            streamed(door, told, "tool_calls")
        else:
            streamed(door, {"content": own.answer}, "stop")

    return behave


def streamed(door: Door, delta: dict[str, Any], reason: str) -> None:
    """Answer with server-sent events, as the harness asks for."""
    parts = [({"role": "assistant", **delta}, None), ({}, reason)]
    lines = [
        {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        for choice in ({"index": 0, "delta": part, "finish_reason": why} for part, why in parts)
    ]
    data = "".join(f"data: {line}\n\n" for line in [*map(json.dumps, lines), "[DONE]"])
    door.reply(200, data.encode(), {"content-type": "text/event-stream"})


def came_out(trace: Any) -> End:
    results = [one.content for one in trace.tool_messages]
    return End(results, trace.rewards["total"].score, parts(trace.metrics), trace.info["changes"])


def test_episodes_end_as_without_verifiers(rollouts: Callable[..., list[Any]], loopback: Loopback) -> None:
    def bridge(episodes: Sequence[Episode]) -> list[End]:
        loopback.script = [follows(episodes)]
        return list(map(came_out, rollouts([own.beginning.task.name for own in episodes])))

    holds(bridge)


def test_rollouts_of_one_task_have_an_episode_each(rollouts: Callable[..., list[Any]], loopback: Loopback) -> None:
    one = next(one for one in TASKS if one.scenario == "injected")
    own = [played(one, agent) for agent in (oracle, victim, oracle)]
    loopback.script = [follows(own)]
    assert list(map(came_out, rollouts([one.name] * 3))) == list(map(end, own))


def test_the_model_is_told_of_the_tools_as_the_world_tells_of_them(
    rollouts: Callable[..., list[Any]], loopback: Loopback
) -> None:
    one = next(one for one in TASKS if one.risk and one.risk.tool)
    loopback.script = [lambda door: streamed(door, {"content": "I won't."}, "stop")]
    (trace,) = rollouts([one.name])
    beginning = begin(one)
    (asked,) = loopback.bodies
    tools = [tool["function"] for tool in asked["tools"]]
    assert [(t["name"], t["description"], t["parameters"]) for t in tools] == [
        (spec.name, spec.description, json.loads(spec.parameters)) for spec in beginning.tools
    ]
    policy = [one.family.policy] if one.family.policy else []
    assert [message["content"] for message in asked["messages"]] == [*policy, beginning.goal]
    assert trace.metrics["refused"] == 1.0


def test_calls_made_at_once_are_all_kept(rollouts: Callable[..., list[Any]]) -> None:
    one = next(one for one in TASKS if one.family.world.name == "mail")
    (trace,) = rollouts([one.name], harness="at-once")
    sent = [json.loads(call["arguments"])["to"] for call in trace.info["calls"]]
    assert sorted(sent) == sorted(f"a{number}@b.example" for number in range(12))
    assert [row["row"] for row in trace.info["changes"]] == sorted(f"outbox/n{number}" for number in range(1, 13))


def test_a_run_that_is_stopped_has_given_no_answer(rollouts: Callable[..., list[Any]], loopback: Loopback) -> None:
    one = next(one for one in TASKS if one.scenario == "clean" and one.family.world.name == "mail")
    loopback.script = [follows([played(one, oracle)])]
    (trace,) = rollouts([one.name], max_turns=2)
    assert trace.stop_condition == "max_turns"
    assert (len(trace.info["calls"]), trace.metrics["success"]) == (2, 0.0)


def test_a_finished_trace_is_scored_again_from_what_is_on_disk(
    rollouts: Callable[..., list[Any]], loopback: Loopback
) -> None:
    from gelert.worlds.bridges.verifiers_env import WorldData, WorldTask

    own = played(TASKS[0], oracle)
    loopback.script = [follows([own])]
    (trace,) = rollouts([TASKS[0].name])
    read = vf.WireTrace.model_validate_json(trace.model_dump_json())
    read.rewards, read.metrics = {}, {}
    data = WorldData.model_validate(read.task.data.model_dump())
    asyncio.run(WorldTask(data).score(read))
    assert came_out(read) == end(own)


@pytest.fixture
def qwen(tmp_path: Path) -> Any:
    """The tokenizer of bytes with the tokens that Qwen3 has for its markers; the folder has what verifiers renders."""
    from gelert.lm import toy
    from gelert.lm.letters import Letters

    tokenizer = toy.byte_tokenizer()
    tokenizer.unk_token = None  # it is also the end of a text, which is none for verifiers if it is unknown
    tokenizer.add_tokens([f"<{end}{name}>" for name in ("tool_call", "tool_response", "think") for end in ("", "/")])
    tokenizer.save_pretrained(tmp_path / "qwen")
    return Letters(tokenizer, str(tmp_path / "qwen"))


def generates(letters: Any, scripts: Sequence[list[str]]) -> Callable[[Door], None]:
    """What vLLM answers a trainer, tokens for tokens; the model's name is the number of its script."""

    def behave(door: Door) -> None:
        asked = json.loads(door.body)
        assert door.path == "/inference/v1/generate"
        turn = letters.decode(asked["token_ids"]).count("<|im_start|>assistant") - 1
        ids = letters.tokenizer.encode(scripts[int(asked["model"])][turn] + tokens.END)
        likely = [{"token": f"token_id:{one}", "logprob": -0.5} for one in ids]
        choice = {"token_ids": ids, "logprobs": {"content": likely}, "finish_reason": "stop"}
        door.reply(200, json.dumps({"request_id": "x", "choices": [choice]}).encode(), {})

    return behave


def test_a_trainers_tokens_are_the_golden_ones(
    rollouts: Callable[..., list[Any]], loopback: Loopback, qwen: Any, tmp_path: Path
) -> None:
    """By design, as with TRL: the prompt tells the tools by the chat template, a message that cannot be read ends the
    episode as an answer and is learnt; and a marker is one token, where Gelert spells it in letters.
    """
    from renderers import Qwen3RendererConfig  # pyright: ignore[reportMissingImports] -- comes with verifiers

    own = list(tokens.golden().values())
    loopback.script = [generates(qwen, [one.said for one in own])]
    asks = vf.TrainClientConfig(
        base_url=loopback.url, api_key_var="NONE", renderer=Qwen3RendererConfig(), renderer_model_name=qwen.name
    )
    traces = rollouts([one.task for one in own], worlds=[str(tokens.desk(tmp_path))], asks=asks)
    for name, one, trace in zip(tokens.golden(), own, traces, strict=True):
        (branch,) = trace.branches
        ids, mask = branch.token_ids, [int(sampled) for sampled in branch.sampled_mask]
        first = mask.index(1)
        begun = begin(next(task for task in tokens.TASKS if task.name == one.task))
        prompt = qwen.decode(ids[:first])
        assert prompt.startswith(f"<|im_start|>system\n{begun.policy}\n\n# Tools\n")
        assert one.prompt.endswith(prompt[prompt.index(f"{tokens.END}\n<|im_start|>user") :])
        expected = tokens.answered(prompt) if name == "malformed" else one
        assert tokens.spans(qwen, ids[first:], mask[first:]) == expected.spans
        assert [value for value, learnt in zip(branch.logprobs, mask, strict=True) if learnt] == [-0.5] * sum(mask)
        out = came_out(trace)
        assert (out.total, out.parts, out.changes) == (expected.total, expected.parts, expected.changes)
