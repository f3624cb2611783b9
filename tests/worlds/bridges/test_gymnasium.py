"""The Gymnasium bridge against Gymnasium itself."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from gelert.core.errors import InputError
from gelert.core.trajectory import ToolCall
from gelert.worlds.agents import oracle
from gelert.worlds.bridges.gymnasium_env import GymWorlds
from gelert.worlds.episode import Episode, changed
from gelert.worlds.tasks import begin
from gelert.worlds.toolcalls import Form, Said, write
from tests.worlds.bridges.contract import TASKS, End, holds, parts, played

LOOK = '{"name": "search_mails", "parameters": {"text": "invoice"}}'


def message(tool: str, arguments: str, form: Form = Form.LLAMA3) -> str:
    return write(form, Said(calls=(ToolCall(tool, arguments),)))


@pytest.fixture
def registered() -> Iterator[str]:
    name = "gelert/Mail-v0"
    gymnasium.register(name, entry_point=lambda **more: GymWorlds(TASKS, **more))
    yield name
    del gymnasium.registry[name]


def test_gymnasiums_own_check_passes(registered: str) -> None:
    check_env(gymnasium.make(registered).unwrapped)


def test_episodes_end_as_without_gymnasium() -> None:
    env = GymWorlds(TASKS)

    def bridge(episodes: Sequence[Episode]) -> list[End]:
        found: list[End] = []
        for own in episodes:
            env.reset(options={"task": own.beginning.task.name})
            results: list[str] = []
            for call in own.calls:
                observation, earned, terminated, truncated, info = env.step(message(call.tool, call.arguments))
                assert (earned, terminated, truncated, info) == (0.0, False, False, {})
                results.append(json.loads(observation["user"])["output"])
            _, earned, terminated, truncated, info = env.step(own.answer)
            assert (terminated, truncated) == (True, False)
            assert env.episode
            found.append(End(results, earned, parts(info), changed(env.episode)))
        return found

    holds(bridge)


@pytest.mark.parametrize("form", list(Form))
def test_a_message_may_be_of_any_form(form: Form) -> None:
    own = played(TASKS[0], oracle)
    env = GymWorlds(TASKS, form=form)
    observation, _ = env.reset(options={"task": TASKS[0].name})
    assert (own.calls[0].tool in observation["system"]) == (form is not Form.SHORT)
    assert observation["user"] == own.beginning.goal
    calls = tuple(ToolCall(call.tool, call.arguments) for call in own.calls)
    env.step(write(form, Said(calls=calls)))
    _, earned, terminated, _, _ = env.step(own.answer)
    assert (earned, terminated) == (1.0, True)


def test_a_message_that_cannot_be_read_costs_a_turn_and_is_told() -> None:
    env = GymWorlds(TASKS, turns=2)
    env.reset(seed=1)
    observation, *_ = env.step('{"name": "send_mail", "parameters": ')
    assert observation["user"].startswith("Your last message: expected a call as JSON")
    _, earned, terminated, truncated, info = env.step('{"name": "no_such_tool", "parameters": {}}')
    assert (terminated, truncated, info["success"]) == (False, True, False)
    assert earned == info["total"]


def test_a_seed_draws_the_same_tasks_and_goes_on() -> None:
    def drawn(env: GymWorlds) -> list[Any]:
        return [env.reset(seed=5)[1]["task"], *(env.reset()[1]["task"] for _ in range(9))]

    env = GymWorlds(TASKS)
    first = drawn(env)
    assert drawn(env) == first == drawn(GymWorlds(TASKS, seed=9))
    assert len(set(first)) > 5


def test_many_environments_play_side_by_side(registered: str) -> None:
    envs = gymnasium.make_vec(registered, num_envs=3, vectorization_mode="sync")
    _, info = envs.reset(seed=2)
    names: Any = info["task"]
    assert len(set(names)) == 3
    observations: Any
    observations, *_ = envs.step([LOOK] * 3)
    for name, told in zip(names, observations["user"], strict=True):
        one = next(task for task in TASKS if task.name == name)
        assert json.loads(told)["output"] == Episode(begin(one)).call("search_mails", {"text": "invoice"})


def test_what_is_asked_wrongly_is_refused() -> None:
    env = GymWorlds(TASKS)
    with pytest.raises(ResetNeeded):
        env.step("Hello.")
    for options in ({"task": "mail/none"}, {"tasks": TASKS[0].name}):
        with pytest.raises(InputError, match="the name of one of the tasks"):
            env.reset(options=options)
    env.reset()
    env.step("Done.")
    with pytest.raises(ResetNeeded):
        env.step("Done.")
    with pytest.raises(InputError, match="at least one task"):
        GymWorlds([])
