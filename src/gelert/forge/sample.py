"""What to make: pairs of runs over the three axes, the settings and the outcomes, drawn from the tasks of the worlds.

Every unsafe run has a mate that is safe. Both share the task, the manner of speaking and the detours; only what the
agent does about the risk differs. So whatever is there beside the behaviour (an attack, a hazard, a wording, a place
where it enters) tells nothing about the label. Where the risk is the agent's own, nothing is planted, and the mate may
be a plain run of the same clean task: there is nothing that it resists.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gelert.core.errors import InputError
from gelert.core.seeds import stream, stream_seed
from gelert.core.taxonomy import Axis, Diagnosis, builtin, selectable
from gelert.core.trajectory import Setting
from gelert.worlds.families import Family, Risk
from gelert.worlds.tasks import Task, tasks

BENIGN_EVERY = 5
"""Each so many pairs, one has a benign mate: a tenth of all runs."""

NOWHERE = "nowhere"
"""In place of an entry where nothing enters: the task is clean, or its risk is the agent's own."""


class Outcome(StrEnum):
    """How a run ends."""

    UNSAFE = "unsafe"
    """The harm is done."""
    RESISTED = "resisted"
    """Safe, although attacked, asked for harm or tempted."""
    BENIGN = "benign"
    """Safe, and nothing was wrong."""


@dataclass(frozen=True, slots=True)
class Item:
    """One run to make."""

    number: int
    pair: int
    """Mates share it."""
    task: Task
    outcome: Outcome
    agent: str
    """``victim``, ``oracle``, or how the defender behaves."""
    draw: int
    """Seed of everything on the surface; mates share it."""

    @property
    def entry(self) -> str:
        """Where the risk enters, or ``nowhere``."""
        risk = self.task.risk
        return risk.entry if risk and risk.entry != "agent" else NOWHERE

    @property
    def attacked(self) -> bool:
        """Whether somebody wants harm: not so in a clean task and in a hazard."""
        return self.task.scenario in ("injected", "malicious")


@dataclass
class Coverage:
    """What a plan holds, counted."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    settings: Counter[str] = field(default_factory=Counter[str])
    scenarios: Counter[str] = field(default_factory=Counter[str])
    wordings: Counter[str] = field(default_factory=Counter[str])
    leaves: Mapping[Axis, Counter[str]] = field(default_factory=lambda: {axis: Counter[str]() for axis in Axis})
    """Of unsafe runs."""
    tuples: Counter[str] = field(default_factory=Counter[str])
    """Joint tuples of unsafe runs, the three slugs joined by `` / ``."""
    entries: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """By entry: unsafe runs, all runs."""
    attacked: tuple[int, int] = (0, 0)
    """Unsafe runs, all runs."""
    unattacked: tuple[int, int] = (0, 0)

    def missing(self) -> list[str]:
        """Leaves that no unsafe run has, as ``axis/slug``."""
        every = [(axis, leaf.slug) for axis in Axis for leaf in selectable(builtin().on(axis))]
        return [f"{axis}/{slug}" for axis, slug in every if not self.leaves[axis][slug]]


def coverage(items: Sequence[Item]) -> Coverage:
    """Count a plan."""
    found = Coverage()
    for item in items:
        unsafe = item.outcome is Outcome.UNSAFE
        found.outcomes[item.outcome.value] += 1
        found.settings[item.task.family.world.setting.value] += 1
        found.scenarios[item.task.scenario] += 1
        found.wordings[item.task.style] += 1
        found.entries[item.entry] = _more(found.entries.get(item.entry, (0, 0)), unsafe=unsafe)
        if item.attacked:
            found.attacked = _more(found.attacked, unsafe=unsafe)
        else:
            found.unattacked = _more(found.unattacked, unsafe=unsafe)
        if unsafe and item.task.risk:
            for axis in Axis:
                found.leaves[axis][str(item.task.risk.diagnosis.on(axis))] += 1
            found.tuples[joint(item.task.risk.diagnosis)] += 1
    return found


def joint(diagnosis: Diagnosis) -> str:
    """The three slugs in one text."""
    return " / ".join(str(diagnosis.on(axis)) for axis in Axis)


def sample(families: Mapping[str, Family], n: int, seed: int, settings: Sequence[Setting] = ()) -> list[Item]:
    """``n`` runs to make; the same for the same catalogue, ``n``, seed and settings.

    First come tasks that show what no task before them does (a leaf, a joint tuple, a setting, a scenario, a wording,
    an entry, a family), then always the task whose leaves and joint tuple are the rarest so far. No task is used twice
    before all of its tuple are.

    Args:
        families: of the catalogue.
        n: how many; of an odd number the last has no mate.
        seed: of all draws.
        settings: only these; all where there are none.

    Raises:
        InputError: there is no task with a risk in these settings.
    """
    wanted = [one for one in families.values() if not settings or one.world.setting in settings]
    risky = [one for family in wanted for one in tasks(family) if one.risk]
    if not risky:
        raise InputError(f"expected worlds with risks in the settings {', '.join(settings) or 'all'}, got none")
    items: list[Item] = []
    for pair, chosen in enumerate(_balanced(risky, -(-n // 2), seed)):
        items += _pair(chosen, pair, seed)
    return items[:n]


def _more(counts: tuple[int, int], *, unsafe: bool) -> tuple[int, int]:
    return counts[0] + unsafe, counts[1] + 1


def _pair(one: Task, pair: int, seed: int) -> list[Item]:
    random = stream(seed, "pair", pair)
    draw = stream_seed(seed, "surface", pair)
    risk = one.risk
    assert risk is not None
    if _may_be_benign(pair, risk):
        mate = Item(0, pair, Task(one.family, one.binding), Outcome.BENIGN, "oracle", draw)
    else:
        mate = Item(0, pair, one, Outcome.RESISTED, random.choice(sorted(risk.defenders)), draw)
    both = [Item(0, pair, one, Outcome.UNSAFE, "victim", draw), mate]
    random.shuffle(both)
    return [Item(2 * pair + at, pair, item.task, item.outcome, item.agent, draw) for at, item in enumerate(both)]


def _may_be_benign(pair: int, risk: Risk) -> bool:
    return pair % BENIGN_EVERY == 0 and risk.entry == "agent"


class _Shelf:
    """The tasks of one joint tuple in the order in which they are taken: no binding again before all have been."""

    def __init__(self, found: list[Task], seed: int) -> None:
        name = joint(_diagnosis(found[0]))
        random = stream(seed, "shelf", name)
        random.shuffle(found)
        seen: Counter[tuple[str, str, int]] = Counter()
        turns: list[tuple[int, Task]] = []
        for one in found:
            key = (one.family.name, one.risk.name if one.risk else "", one.binding)
            turns.append((seen[key], one))
            seen[key] += 1
        self.tasks = [one for _, one in sorted(turns, key=lambda turn: turn[0])]
        self.taken = 0
        self.diagnosis = _diagnosis(found[0])
        self.tie = random.random()

    def take(self) -> Task:
        """The next one; from the beginning again after the last."""
        one = self.tasks[self.taken % len(self.tasks)]
        self.taken += 1
        return one

    def need(self, counts: Mapping[Axis, Counter[str]], tuples: int) -> tuple[int, float]:
        """The lower, the sooner it is taken: rounds through the shelf, then how often its leaves and it were.

        Each count is in units of its even share, so that the three axes and the ``tuples`` weigh the same.
        """
        common = sum(counts[axis][str(self.diagnosis.on(axis))] * _SIZES[axis] for axis in Axis)
        return self.taken // len(self.tasks), common + self.taken * tuples + self.tie


_SIZES = {axis: len(selectable(builtin().on(axis))) for axis in Axis}


def _balanced(risky: Sequence[Task], pairs: int, seed: int) -> Iterator[Task]:
    """Tasks, a pair each; each ``BENIGN_EVERY``th is one whose risk is the agent's own, where there are any."""
    counts: Mapping[Axis, Counter[str]] = {axis: Counter() for axis in Axis}
    first = list(_covering(risky, seed))
    used = {one.name for one in first}
    left = [one for one in risky if one.name not in used] or risky
    own = _shelves([one for one in left if one.risk and one.risk.entry == "agent"], seed)
    every = _shelves([one for one in left if not (one.risk and one.risk.entry == "agent")], seed)
    tuples = len({joint(_diagnosis(one)) for one in risky})
    covering = iter(first)
    for pair in range(pairs):
        among = own if own and (pair % BENIGN_EVERY == 0 or not every) else [*every, *own]
        chosen = next(covering, None) or min(among, key=lambda shelf: shelf.need(counts, tuples)).take()
        for axis in Axis:
            counts[axis][str(_diagnosis(chosen).on(axis))] += 1
        yield chosen


def _shelves(found: Sequence[Task], seed: int) -> list[_Shelf]:
    kinds: dict[str, list[Task]] = {}
    for one in found:
        kinds.setdefault(joint(_diagnosis(one)), []).append(one)
    return [_Shelf(kinds[name], seed) for name in sorted(kinds)]


def _covering(risky: Sequence[Task], seed: int) -> Iterator[Task]:
    """Greedily few tasks that show all that any shows: the one with the most that is new, until nothing is."""
    shuffled = list(risky)
    stream(seed, "covering").shuffle(shuffled)
    kinds: dict[frozenset[str], Task] = {}
    for one in shuffled:
        kinds.setdefault(_features(one), one)
    left = frozenset[str]().union(*kinds)
    while left:
        features = max(kinds, key=lambda shown: len(shown & left))
        yield kinds[features]
        left -= features


def _features(one: Task) -> frozenset[str]:
    risk = one.risk
    assert risk is not None
    leaves = [f"{axis}/{risk.diagnosis.on(axis)}" for axis in Axis]
    world = one.family.world
    rest = (f"setting/{world.setting}", f"scenario/{one.scenario}", f"wording/{one.style}", f"entry/{risk.entry}")
    return frozenset((*leaves, joint(risk.diagnosis), *rest, f"family/{world.name}/{one.family.name}"))


def _diagnosis(one: Task) -> Diagnosis:
    assert one.risk is not None
    return one.risk.diagnosis
