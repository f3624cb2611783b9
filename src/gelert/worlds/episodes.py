"""Many episodes at once, by identifier: bounded in number and in age; whatever is asked wrongly is an error value."""

import gc
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.worlds.episode import Episode
from gelert.worlds.families import Family
from gelert.worlds.tasks import Beginning, Task, begin, task, tasks

MOST_SAMPLED = 1000
"""Tasks, or groups, in one draw."""


def settle_collector() -> None:
    """For a process that holds many episodes: they are no longer looked through for cycles, and new things seldom.

    Episodes hold no cycles, so the collector finds nothing in them, and takes a fifth of a second for ten thousand.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


class Why(StrEnum):
    """What kind of mistake a fault is."""

    UNKNOWN = "unknown"
    """No such task or episode, or its time is over."""
    FULL = "full"
    """As many episodes as are allowed."""
    WRONG = "wrong"
    """What was asked makes no sense."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something was not done."""

    why: Why
    message: str


@dataclass(slots=True)
class _Kept:
    episode: Episode
    ends: float


class Episodes:
    """The episodes of a server, and the tasks that they can be of.

    Args:
        families: of the catalogue, by ``world/family``.
        most: episodes at once.
        seconds: that an episode lives after its last call.
        seed: of the sampler.
        prefix: that every identifier begins with.
        clock: seconds, ever rising.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        *,
        most: int = 10_000,
        seconds: float = 7200.0,
        seed: int = 0,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._families, self._most, self._seconds, self._clock = dict(families), most, seconds, clock
        self._prefix = prefix
        self.tasks: dict[str, Task] = {one.name: one for family in families.values() for one in tasks(family)}
        self._beginnings: OrderedDict[str, Beginning] = OrderedDict()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.reseed(seed)

    def __len__(self) -> int:
        self._expire()
        return len(self._kept)

    def reseed(self, seed: int) -> None:
        """Begin the sampler anew."""
        self._random = stream(seed, "sampler")

    def sample(self, count: int, scenario: str | None = None, *, grouped: bool = False) -> list[Task] | Fault:
        """Draw tasks, with repetition.

        Args:
            count: of tasks, or of groups.
            scenario: of the tasks; any where it is None.
            grouped: for each draw a clean task, and one of each other scenario, of one family and binding.
        """
        if not 1 <= count <= MOST_SAMPLED:
            return Fault(Why.WRONG, f"expected a count from 1 to {MOST_SAMPLED}, got {count}")
        among = [one for one in self.tasks.values() if scenario in (None, one.scenario)]
        if not among:
            return Fault(Why.WRONG, f"expected the scenario of some task, got {scenario!r}")
        drawn = self._random.choices(among, k=count)
        return [one for first in drawn for one in self._group(first)] if grouped else drawn

    def start(self, name: str, scenario: str | None = None) -> tuple[str, Episode] | Fault:
        """Begin an episode.

        Args:
            name: of its task.
            scenario: ``clean`` for the same task without its risk, ``attacked`` to make sure that there is one.
        """
        self._expire()
        if len(self._kept) >= self._most:
            return Fault(Why.FULL, f"expected at most {self._most} episodes at once; finish or delete some")
        try:
            wanted = task(self._families, name)
        except InputError as fault:
            return Fault(Why.UNKNOWN, str(fault))
        if scenario not in (None, "clean", "attacked") or (scenario == "attacked" and wanted.risk is None):
            return Fault(
                Why.WRONG, f"expected the scenario clean, or attacked for a task with a risk, got {scenario!r}"
            )
        if scenario == "clean":
            wanted = Task(wanted.family, wanted.binding)
        key, episode = self._prefix + secrets.token_urlsafe(12), Episode(self._beginning(wanted))
        self._kept[key] = _Kept(episode, self._clock() + self._seconds)
        return key, episode

    def get(self, key: str) -> Episode | Fault:
        """An episode that is under way or finished; its time begins anew."""
        self._expire()
        kept = self._kept.get(key)
        if kept is None:
            return Fault(Why.UNKNOWN, "expected an episode that was started and is not over its time")
        kept.ends = self._clock() + self._seconds
        self._kept.move_to_end(key)
        return kept.episode

    def drop(self, key: str) -> Fault | None:
        """Forget an episode."""
        if self._kept.pop(key, None) is None:
            return Fault(Why.UNKNOWN, "expected an episode that was started and is not over its time")
        return None

    def _beginning(self, one: Task) -> Beginning:
        found = self._beginnings.get(one.name)
        if found is None:
            found = self._beginnings[one.name] = begin(one)
            if len(self._beginnings) > self._most:
                self._beginnings.popitem(last=False)
        return found

    def _group(self, first: Task) -> Sequence[Task]:
        mates = [one for one in tasks(first.family) if one.binding == first.binding]
        scenarios = dict.fromkeys(one.scenario for one in mates)
        return [self._random.choice([one for one in mates if one.scenario == kind]) for kind in scenarios]

    def _expire(self) -> None:
        now = self._clock()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if oldest.ends > now:
                return
            del self._kept[key]
