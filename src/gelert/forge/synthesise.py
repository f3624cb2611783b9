"""Plays what a plan asks for in its world and gives records whose labels are true by construction.

The agent of an item follows the task's script. Around the script's calls it may look further (detours: lookups that
scripts of the same world make, with values that are there), may slip (a wrong call, then the right one), and it talks
in one of the manners of ``gelert.forge.surface``. Mates draw all of that alike, and are filled up to the same number of
calls, so that neither the length nor the surface tells them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.core.taxonomy import Axis, Diagnosis
from gelert.forge.sample import Item, Outcome
from gelert.forge.surface import Manner, manners
from gelert.forge.synthesise_rationale import coarse, fine
from gelert.forge.synthesise_record import Record
from gelert.guard.formats import write_atif
from gelert.worlds.agents import follow
from gelert.worlds.episode import Episode, changed, trajectory, truth
from gelert.worlds.families import Family
from gelert.worlds.scripts import Script
from gelert.worlds.tasks import Beginning, Task, begin

SLIPPING, SLIP = 0.3, 0.15
"""Share of pairs whose agents slip at all, and how often such an agent does, by call."""

HORIZONS = ((0.25, 0, 0), (0.45, 6, 9), (0.2, 10, 16), (0.1, 17, 56))
"""Share of pairs, and between how many calls theirs are filled up; 0: the script alone."""

LATEST_GAP = 8
"""A detour comes before one of the script's first so many calls, or after its last."""

READ_BINDINGS = 24
"""Of each family, whose lookups others may make as detours."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be made."""

    tool: str
    arguments: str
    """JSON text."""


Padding = Literal["full", "none"]


@dataclass(frozen=True)
class Synthesiser:
    """Makes records of items.

    Args:
        families: of the catalogue, by ``world/family``.
    """

    families: Mapping[str, Family]
    _lookups: dict[str, list[Call]] = field(default_factory=dict[str, list[Call]], init=False, repr=False)

    def make(self, item: Item) -> Record:
        """Play an item and tell what is true of it.

        Raises:
            InputError: the task's own script does not end as the plan says, so the world is not proven.
        """
        return record(item, self.play(item))

    def play(self, item: Item) -> Episode:
        """Play an item to its end.

        A detour that would change the outcome (where reading is itself the harm) is found by the outcome: the run is
        then played without any.

        Raises:
            InputError: the task's own script does not end as the plan says, so the world is not proven.
        """
        beginning = begin(item.task)
        unsafe = item.outcome is Outcome.UNSAFE
        for padding in ("full", "none"):
            episode = self._play(beginning, item, padding)
            if episode.harmed == unsafe:
                return episode
        raise InputError(
            f"expected the {item.agent} to end {item.outcome} in {item.task.name}, got otherwise; run gelert worlds"
            " check on its world"
        )

    def _play(self, beginning: Beginning, item: Item, padding: Padding) -> Episode:
        calls, answer = _scripted(beginning, item)
        if padding == "full":
            calls = self._filled(calls, item)
        manner, tools = manner_of(item.draw), item.task.family.world.tools
        episode = Episode(beginning)
        failed = False
        for number, call in enumerate(calls):
            random = stream(item.draw, "said", number)
            said = manner.before(call.tool, tools[call.tool].kind, random, failed=failed)
            episode.call(call.tool, call.arguments, said)
            failed = not episode.calls[-1].ok
        episode.finish(manner.around(answer, stream(item.draw, "answer")))
        return episode

    def _filled(self, calls: list[Call], item: Item) -> list[Call]:
        """The script's calls with detours among them, up to the number that the pair's draw says."""
        among = [one for one in self._detours(item.task.family) if one.tool in item.task.family.offered]
        random = stream(item.draw, "detours")
        missing = _horizon(random) - len(calls)
        random.shuffle(among)
        gaps = sorted((random.randrange(LATEST_GAP), at) for at in range(len(among)))
        before = {at: gap for gap, at in gaps if at < missing}
        filled: list[Call] = []
        for gap in range(len(calls) + 1):
            filled += [among[at] for at in before if min(before[at], len(calls)) == gap]
            filled += calls[gap : gap + 1]
        return filled

    def _detours(self, family: Family) -> list[Call]:
        """Calls that only read, out of the oracles' scripts of a world."""
        world = family.world.name
        if world not in self._lookups:
            found: dict[Call, None] = {}
            for other in (one for one in self.families.values() if one.world.name == world):
                for binding in range(min(READ_BINDINGS, len(other.bindings))):
                    found |= dict.fromkeys(_lookups(begin(Task(other, binding))))
            self._lookups[world] = list(found)
        return list(self._lookups[world])


def manner_of(draw: int) -> Manner:
    """How the agents of a pair talk."""
    return stream(draw, "manner").choice(list(manners().values()))


def record(item: Item, episode: Episode) -> Record:
    """What is kept of a finished episode.

    Args:
        item: that it was played for.
        episode: finished.
    """
    run, true, changes = trajectory(episode), truth(episode), changed(episode)
    task, risk = item.task, item.task.risk
    unsafe = item.outcome is Outcome.UNSAFE
    met = risk.diagnosis if risk else Diagnosis()
    rows = [str(change["row"]) for change in changes]
    return Record(
        number=item.number,
        pair=item.pair,
        task=task.name,
        world=task.family.world.name,
        family=f"{task.family.world.name}/{task.family.name}",
        setting=task.family.world.setting.value,
        scenario=task.scenario,
        entry=item.entry,
        wording=task.style,
        manner=manner_of(item.draw).name,
        outcome=item.outcome.value,
        agent=item.agent,
        draw=item.draw,
        unsafe=unsafe,
        diagnosis=_slugs(met if unsafe else Diagnosis()),
        met=_slugs(met),
        truth=true,
        reason=coarse(run, task.scenario, risk.entry if risk else None, true, rows),
        rationale=fine(run, met, true) if unsafe else "",
        trajectory=write_atif(run),
        changes=changes,
    )


def _slugs(diagnosis: Diagnosis) -> tuple[str | None, str | None, str | None]:
    source, failure, harm = (diagnosis.on(axis) for axis in Axis)
    return source, failure, harm


def _script(item: Item) -> Script:
    risk = item.task.risk
    match item.agent:
        case "oracle":
            return item.task.family.oracle
        case "victim":
            assert risk is not None
            return risk.victim
        case how:
            assert risk is not None
            return risk.defenders[how]


def _scripted(beginning: Beginning, item: Item) -> tuple[list[Call], str]:
    """The calls of an item's script and its answer, found by following it."""
    random = stream(item.draw, "slips")
    slipping = random.random() < SLIPPING
    rehearsal = Episode(beginning)
    follow(_script(item), slips=lambda: slipping and random.random() < SLIP)(rehearsal)
    return [Call(one.tool, one.arguments) for one in rehearsal.calls], rehearsal.answer


def _horizon(random: Random) -> int:
    _, low, high = random.choices(HORIZONS, [share for share, _, _ in HORIZONS])[0]
    return random.randint(low, high)


def _lookups(beginning: Beginning) -> list[Call]:
    """What the oracle of a clean task calls that succeeds by itself and changes nothing."""
    rehearsal = Episode(beginning)
    follow(beginning.task.family.oracle)(rehearsal)
    found: list[Call] = []
    for one in rehearsal.calls:
        alone = Episode(beginning)
        alone.call(one.tool, one.arguments)
        if alone.calls[0].ok and not alone.changes:
            found.append(Call(one.tool, one.arguments))
    return found
