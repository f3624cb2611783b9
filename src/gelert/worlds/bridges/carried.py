"""What a library can carry from one process to another: tasks by their names, an episode by its calls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from gelert.core.errors import InputError
from gelert.worlds import tasks
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.families import Family, Scenario
from gelert.worlds.tasks import Task


@dataclass(frozen=True)
class Told:
    """One call, as it came."""

    tool: str
    arguments: str
    """JSON text."""


@cache
def _families(worlds: tuple[str, ...]) -> Mapping[str, Family]:
    return catalogue(worlds)


def named(worlds: Sequence[str], name: str) -> Task:
    """The task of that name.

    Args:
        worlds: names or files; all that come with Gelert where there are none.
        name: see ``Task.name``.

    Raises:
        InputError: there is no such world, or no such task.
    """
    return tasks.task(_families(tuple(worlds)), name)


def chosen(worlds: Sequence[str], scenario: Scenario | None, count: int | None, seed: int) -> list[Task]:
    """Tasks of worlds.

    Args:
        worlds: names or files; all that come with Gelert where there are none.
        scenario: of the tasks; any where it is None.
        count: how many to draw; all where it is None.
        seed: of the draw.

    Raises:
        InputError: there is no such world, or there are fewer tasks than that.
    """
    among = [one for family in _families(tuple(worlds)).values() for one in tasks.tasks(family)]
    among = [one for one in among if scenario in (None, one.scenario)]
    if not among:
        raise InputError(f"expected the scenario of some task of {', '.join(worlds) or 'the worlds'}, got {scenario!r}")
    return among if count is None else tasks.sample(among, count, seed)


def carried(episode: Episode) -> list[Told]:
    """The calls that ``again`` plays."""
    return [Told(one.tool, one.arguments) for one in episode.calls]


def again(one: Task, calls: Iterable[Told], answer: str | None = None) -> Episode:
    """The episode of a task in which these calls were made, and that answer given if there is one."""
    episode = Episode(tasks.begin(one))
    for call in calls:
        episode.call(call.tool, call.arguments)
    if answer is not None:
        episode.finish(answer)
    return episode
