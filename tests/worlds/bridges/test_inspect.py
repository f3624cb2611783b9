"""The Inspect bridge against Inspect itself, with its own offline model."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gelert.worlds.agents import oracle, victim
from gelert.worlds.episode import MOST_CALLS, OVER, Episode
from gelert.worlds.tasks import Task, begin
from tests.worlds.bridges.contract import TASKS, End, end, holds, parts, played

inspect_ai: Any = pytest.importorskip("inspect_ai", reason="Inspect is an extra; make test-bridges installs it")
model: Any = pytest.importorskip("inspect_ai.model")

pytestmark = [
    pytest.mark.bridges,
    # Inspect calls tenacity in a way that it gives up, and leaves streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*MemoryObjectReceiveStream:pytest.PytestUnraisableExceptionWarning"),
]

WORLDS = ["mail", "shop"]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs samples with a scripted model; gives Inspect's log."""
    from gelert.worlds.bridges.inspect_task import worlds

    for place in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(place, str(tmp_path))

    def run(names: Sequence[str], outputs: Any, **more: Any) -> Any:
        scripted = model.get_model("mockllm/model", custom_outputs=outputs, memoize=False)
        kept = {"log_dir": str(tmp_path), "display": "none", "sample_id": list(names)}
        (log,) = inspect_ai.eval(worlds(WORLDS), model=scripted, **kept, **more)
        assert log.status == "success", log.error
        return log

    return run


def outputs(own: Episode) -> list[Any]:
    """What a model says that plays this episode; with its usage, for counting tokens needs a download."""
    said = [model.ModelOutput.for_tool_call("mock", one.tool, json.loads(one.arguments)) for one in own.calls]
    said.append(model.ModelOutput.from_content("mock", own.answer))
    return [one.model_copy(update={"usage": model.ModelUsage()}) for one in said]


def repeated(own: Episode) -> Callable[..., Any]:
    """A model that plays this episode in any number of conversations at once."""
    said = outputs(own)
    return lambda messages, *_: said[sum(one.role == "assistant" for one in messages)]


def came_out(sample: Any) -> End:
    (score,) = sample.scores.values()
    results = [one.text for one in sample.messages if one.role == "tool"]
    return End(results, score.value["total"], parts(score.value), score.metadata["changes"])


def test_episodes_end_as_without_inspect(evaluate: Callable[..., Any]) -> None:
    def bridge(episodes: Sequence[Episode]) -> list[End]:
        found: list[End] = []
        for own in episodes:
            log = evaluate([own.beginning.task.name], outputs(own))
            found += map(came_out, log.samples)
        return found

    holds(bridge)


def test_samples_that_run_at_once_have_an_episode_each(evaluate: Callable[..., Any]) -> None:
    own = played(next(one for one in TASKS if one.scenario == "injected"), victim)
    log = evaluate([own.beginning.task.name], repeated(own), epochs=6, max_samples=6)
    assert [came_out(one) for one in log.samples] == [end(own)] * 6


def test_every_value_has_its_mean_for_every_scenario(evaluate: Callable[..., Any]) -> None:
    chosen = [next(one for one in TASKS if one.scenario == kind) for kind in ("clean", "injected", "malicious")]
    names = [one.name for one in chosen]
    said = [output for one in chosen for output in outputs(played(one, victim))]
    log = evaluate(names, said, max_samples=1)
    found = {one.name: {name: value.value for name, value in one.metrics.items()} for one in log.results.scores}
    ends = {one.scenario: end(played(one, victim)) for one in chosen}
    for name in ("total", "utility", "safe", "harmed"):
        own = {kind: one.total if name == "total" else one.parts[name] for kind, one in ends.items()}
        assert {kind: found[name][f"grouped_{kind}"] for kind in own} == own
        assert found[name]["mean"] == pytest.approx(sum(own.values()) / 3)
    assert found["harmed"]["grouped_injected"] == 1.0


def test_the_model_is_told_of_the_tools_as_the_world_tells_of_them(evaluate: Callable[..., Any]) -> None:
    one = next(one for one in TASKS if one.risk and one.risk.tool)
    told: list[Any] = []

    def look(messages: Any, tools: Any, *_: Any) -> Any:
        told.append((messages, tools))
        return outputs(played(one, oracle))[-1]

    evaluate([one.name], look)
    ((messages, tools),) = told
    beginning = begin(one)
    assert [(tool.name, tool.description) for tool in tools] == [(s.name, s.description) for s in beginning.tools]
    assert any(beginning.payload in tool.description for tool in tools)
    for tool, spec in zip(tools, beginning.tools, strict=True):
        own = json.loads(spec.parameters)
        seen = tool.parameters.model_dump(exclude_none=True)
        assert (seen["properties"], seen["required"]) == (own["properties"], own["required"])
    policy = [one.family.policy] if one.family.policy else []
    assert [message.text for message in messages] == [*policy, beginning.goal]


def test_a_log_is_scored_anew_from_what_its_samples_hold(evaluate: Callable[..., Any]) -> None:
    from gelert.worlds.bridges.inspect_task import earned

    own = played(TASKS[0], oracle)
    log = evaluate([TASKS[0].name], outputs(own), score=False)
    assert not log.samples[0].scores
    again = inspect_ai.score(log, earned(WORLDS), action="overwrite", display="none")
    assert came_out(again.samples[0]) == end(own)


def test_calls_beyond_the_limit_are_refused_and_not_kept(evaluate: Callable[..., Any]) -> None:
    one = next(one for one in TASKS if one.family.world.name == "mail")
    first, last = outputs(played(one, oracle))[:: len(played(one, oracle).calls)]
    (call,) = first.message.tool_calls
    first.message.tool_calls = [replace(call, id=f"c{at}") for at in range(MOST_CALLS + 2)]
    log = evaluate([one.name], [first, last])
    results = came_out(log.samples[0]).results
    assert [one == OVER for one in results] == [False] * MOST_CALLS + [True] * 2
    assert len(log.samples[0].store["Played:calls"]) == MOST_CALLS


def test_an_agent_that_never_answers_is_stopped(evaluate: Callable[..., Any]) -> None:
    one: Task = next(one for one in TASKS if one.family.world.name == "mail")
    call = model.ModelOutput.for_tool_call("mock", "list_mails", {"folder": "inbox"})
    call.usage = model.ModelUsage()
    sample = evaluate([one.name], lambda *_: call.model_copy(deep=True)).samples[0]
    assert sample.limit.type == "turn"
    assert sum(message.role == "assistant" for message in sample.messages) == 15
    assert came_out(sample).parts["success"] == 0.0
