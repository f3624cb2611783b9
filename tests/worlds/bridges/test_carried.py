"""What is carried between processes is enough."""

import json
from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.worlds.agents import mixture
from gelert.worlds.bridges.carried import again, carried, chosen, named
from gelert.worlds.episode import MOST_CALLS, OVER, Episode
from gelert.worlds.tasks import begin
from tests.worlds.bridges.contract import end
from tests.worlds.small import DESK


def test_an_episode_is_played_again_from_its_task_and_its_calls() -> None:
    for number, one in enumerate(chosen(["mail", "shop"], None, 40, 1)):
        own = Episode(begin(one))
        mixture(own.beginning, number, falls=0.4, refuses=0.1, slips=0.3)(own)
        found = again(named(["mail", "shop"], one.name), carried(own), own.answer)
        assert end(found) == end(own)


def test_a_call_after_the_last_is_not_carried() -> None:
    episode = again(chosen(["mail"], "clean", 1, 0)[0], [])
    results = [episode.call("no_such_tool", "{}") for _ in range(MOST_CALLS + 1)]
    assert results[-1] == OVER
    assert len(carried(episode)) == MOST_CALLS
    assert not again(episode.beginning.task, carried(episode)).finished


def test_tasks_are_chosen_from_files_too(tmp_path: Path) -> None:
    path = tmp_path / "desk.json"
    path.write_text(json.dumps(DESK))
    found = chosen([str(path)], "malicious", None, 0)
    assert {one.scenario for one in found} == {"malicious"}
    assert named([str(path)], found[0].name).names == found[0].names
    assert chosen([str(path)], None, 5, 3) == chosen([str(path)], None, 5, 3)


def test_what_is_not_there_cannot_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "desk.json"
    path.write_text(json.dumps(DESK))
    with pytest.raises(InputError, match="the scenario of some task"):
        chosen([str(path)], "hazard", None, 0)
    with pytest.raises(InputError, match="at most"):
        chosen([str(path)], "clean", 1000, 0)
    with pytest.raises(InputError, match="expected a world among"):
        named(["no such world"], "desk/answer/0/clean")
