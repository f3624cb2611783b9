"""The OpenEnv bridge against OpenEnv itself: its server on loopback, its client."""

import json
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from gelert.backends.scripted import ScriptedBackend
from gelert.worlds.agents import victim
from gelert.worlds.episode import MOST_CALLS, OVER, Episode
from gelert.worlds.model_agent import Ending, play
from gelert.worlds.tasks import Task, begin
from tests.worlds.bridges import tokens
from tests.worlds.bridges.contract import TASKS, End, end, holds, parts, played

pytest.importorskip("openenv", reason="OpenEnv is an extra; make test-bridges installs it")

pytestmark = pytest.mark.bridges


@contextmanager
def serving(tasks: Sequence[Task] = TASKS, **limits: Any) -> Generator[str]:
    """Where a server of worlds listens, for as long as the block runs."""
    import uvicorn

    from gelert.worlds.bridges.openenv_env import app

    server = uvicorn.Server(
        uvicorn.Config(app(tasks, **limits), port=0, log_level="error", timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def session(url: str) -> Any:
    from gelert.worlds.bridges.openenv_client import WorldClient

    return WorldClient(base_url=url).sync()


def act(client: Any, **action: Any) -> Any:
    from gelert.worlds.bridges.openenv_client import WorldAction

    return client.step(WorldAction(**action))


def replayed(client: Any, own: Episode) -> End:
    client.reset(task=own.beginning.task.name)
    results: list[str] = []
    for call in own.calls:
        step = act(client, tool=call.tool, arguments=json.loads(call.arguments))
        assert (step.reward, step.done) == (None, False)
        results.append(step.observation.result)
    last = act(client, answer=own.answer)
    assert last.done
    return End(results, last.reward, parts(last.observation.metadata), client.state().changes)


def test_episodes_end_as_without_openenv() -> None:
    with serving() as url, session(url) as client:

        def bridge(episodes: Sequence[Episode]) -> list[End]:
            return [replayed(client, own) for own in episodes]

        holds(bridge)


def test_sessions_at_once_have_an_episode_each() -> None:
    own = played(next(one for one in TASKS if one.scenario == "injected"), victim)
    with serving() as url, ExitStack() as stack:
        clients = [stack.enter_context(session(url)) for _ in range(8)]
        for client in clients:
            client.reset(task=own.beginning.task.name)
        for call in own.calls:
            found = [act(client, tool=call.tool, arguments=call.arguments) for client in clients]
            assert [one.observation.result for one in found] == [call.result] * 8
        for client in clients:
            assert act(client, answer=own.answer).reward == end(own).total
            assert client.state().changes == end(own).changes


def test_a_reset_tells_the_agent_all_and_the_state_counts() -> None:
    one = TASKS[0]
    with serving() as url, session(url) as client:
        assert client.state().task == ""
        begun = client.reset(task=one.name, episode_id="e1").observation
        assert (begun.system, begun.goal) == (one.family.policy, begin(one).goal)
        assert [tool["function"]["name"] for tool in begun.tools] == [spec.name for spec in begin(one).tools]
        act(client, tool="no_such_tool")
        state = client.state()
        assert (state.task, state.episode_id, state.step_count) == (one.name, "e1", 1)


def test_a_seed_draws_the_same_task_and_sessions_differ_without_one() -> None:
    def drawn(client: Any, **asked: int) -> str:
        client.reset(**asked)
        return client.state().task

    with serving() as url, session(url) as first, session(url) as second:
        assert drawn(first, seed=4) == drawn(second, seed=4)
        assert len({drawn(client) for client in (first, second) for _ in range(4)}) > 4


def test_an_episode_ends_at_the_limit_of_calls() -> None:
    with serving() as url, session(url) as client:
        client.reset(task=TASKS[0].name)
        steps = [act(client, tool="no_such_tool") for _ in range(MOST_CALLS)]
        assert [one.done for one in steps] == [False] * (MOST_CALLS - 1) + [True]
        assert steps[-1].observation.metadata["success"] is False


def test_what_is_asked_wrongly_is_answered_with_why() -> None:
    with serving(sessions=1) as url, session(url) as client:
        with pytest.raises(RuntimeError, match="a reset before"):
            act(client, answer="Hello.")
        with pytest.raises(RuntimeError, match=r"one of the \d+ tasks"):
            client.reset(task="mail/none")
        with pytest.raises(RuntimeError, match=r"got .'scenario'. too"):
            client.reset(scenario="clean")
        with pytest.raises(ValueError, match="either a tool or an answer"):
            act(client, tool="send_mail", answer="Done.")
        with pytest.raises(RuntimeError, match="CAPACITY_REACHED"), session(url) as second:
            second.reset()
        client.reset()
        assert act(client, answer="Done.").done


def test_the_task_interface_lists_what_can_be_begun() -> None:
    with serving() as url, session(url) as client:
        splits = [one["name"] for one in httpx.get(f"{url}/gelert/splits").json()]
        assert set(splits) == {"clean", "injected", "hazard", "malicious"}
        counts = [httpx.post(f"{url}/gelert/num_tasks", json={"split": name}).json()["num_tasks"] for name in splits]
        assert sum(counts) == len(TASKS)
        row = httpx.post(f"{url}/gelert/task", json={"split": "hazard", "index": 3}).json()["task"]
        asked = {"split": "hazard", "start": 2, "stop": 5}
        assert httpx.post(f"{url}/gelert/task_range", json=asked).json()["tasks"][1] == row
        client.reset(**row)
        assert client.state().task == row["task"]
        assert httpx.post(f"{url}/gelert/task", json={"split": "hazard", "index": 10**6}).status_code == 400


@pytest.mark.parametrize("name", tokens.NAMES)
def test_a_rollout_over_a_server_has_the_golden_tokens(name: str) -> None:
    from gelert.worlds.bridges.openenv_client import ServedEpisode
    from gelert.worlds.rollout import Rollout

    own, letters = tokens.golden()[name], tokens.byte_letters()
    with serving(tokens.TASKS) as url, session(url) as client:
        episode = ServedEpisode(client, own.task)
        rollout: Any = Rollout(letters, tokens.FORM, episode)
        for text in own.said:
            assert (rollout.over, episode.total) == (False, None)
            rollout.take(tokens.generated(letters, text))
        assert rollout.over
        assert letters.decode(rollout.prompt) == own.prompt
        assert tokens.spans(letters, rollout.completion, rollout.mask) == own.spans
        assert (episode.total, parts(episode.parts), client.state().changes) == (own.total, own.parts, own.changes)


def test_a_model_plays_on_a_server() -> None:
    from gelert.worlds.bridges.openenv_client import ServedEpisode

    own = tokens.golden()["malformed"]
    with serving(tokens.TASKS) as url, session(url) as client:
        episode = ServedEpisode(client, own.task)
        ended = play(ScriptedBackend(own.said), tokens.FORM, episode)
        assert (ended.ending, ended.malformed, episode.total) == (Ending.ANSWERED, 1, own.total)


def test_an_episode_that_a_server_has_ended_is_over() -> None:
    from gelert.worlds.bridges.openenv_client import ServedEpisode

    with serving() as url, session(url) as client:
        episode = ServedEpisode(client, TASKS[0].name)
        assert episode.beginning.tools == begin(TASKS[0]).tools
        results = [episode.call("no_such_tool", {"x": 1}) for _ in range(MOST_CALLS + 1)]
        assert results[-1] == OVER != results[-2]
        assert episode.total is not None
        episode.finish("Done.")
        assert client.state().step_count == MOST_CALLS + 1
