"""Labelled runs as replies to learn: which view of a run is shown, what is answered, which runs are twins.

An unsafe run is shown where its harm is done, if that is known (synthesised runs know it), else as it ends; its safe
twin is shown at the same place, so that the place does not tell them apart.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gelert.backends.local import LocalModel
from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.core.taxonomy import builtin
from gelert.core.trajectory import Role
from gelert.evals.benches import RECORDS, WORLDS, Labelled, Whole, group_folds, synthesised_rows
from gelert.guard.answer import Wording, segments, tokens
from gelert.guard.views import views
from gelert.lm.prefix import Reply

TOGETHER = 2
"""Lessons come in pairs: first all pairs of twins, then the others, paired as they stand."""


@dataclass(frozen=True)
class Lesson:
    """What one run teaches."""

    run: Labelled
    reply: Reply
    """A view of the run, the question, and the answer."""


@dataclass(frozen=True)
class Split:
    """Groups are on one side only."""

    train: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]


def split(runs: Sequence[Labelled], *, folds: int = 4, seed: int = 0) -> Split:
    """One of ``folds`` parts for validation, the rest to learn from.

    Raises:
        InputError: a side has no safe or no unsafe runs.
    """
    held = set(group_folds([run.group for run in runs], folds, seed)[0])
    sides = tuple(tuple(run for at, run in enumerate(runs) if (at in held) == validates) for validates in (False, True))
    for side in sides:
        if len({run.unsafe for run in side}) < 2:
            raise InputError(f"expected groups enough for safe and unsafe runs on both sides, got {len(runs)} runs")
    return Split(sides[0], sides[1])


def lessons(
    model: LocalModel, runs: Sequence[Labelled], max_tokens: int, *, rationale: bool = False, seed: int = 0
) -> list[Lesson]:
    """A lesson of each run, twins side by side.

    Of an odd number of runs the last one without a twin is left out. Runs in which no agent acts are, too.

    Args:
        model: whose tokens they are.
        runs: labelled.
        max_tokens: of a view.
        rationale: also learn the reason that an unsafe run's label gives.
        seed: of the views that are drawn.
    """
    acting = [run for run in runs if any(step.role is Role.AGENT for step in run.example.trajectory.steps)]
    known = _known(acting)
    found: list[Lesson] = []
    for name, pair in _paired(acting, known):
        place: float | None = None
        for run in sorted(pair, key=lambda one: not one.unsafe):  # the unsafe one chooses the place
            shown = views(model, run.example.trajectory, max_tokens).views
            harmed = known.get(_place(run), _Known()).harmed
            if run.unsafe and harmed is not None:
                at = next((at for at, view in enumerate(shown) if view.shows(harmed)), len(shown) - 1)
                place = (at + 0.5) / len(shown)
            elif place is None:
                place = stream(seed, "view", run.source, run.key).random() if known else 1.0
            at = min(int(place * len(shown)), len(shown) - 1)  # the middle of a view's share falls into it
            found.append(Lesson(run, _reply(model, run, shown[at].ids, name, rationale=rationale)))
    return found[: len(found) // TOGETHER * TOGETHER]


def questions(model: LocalModel, runs: Sequence[Labelled], max_tokens: int) -> list[Lesson]:
    """A lesson of every view of every run, run by run, that asks for the verdict alone: what a guard reads."""
    wording = Wording.of(model.encode)
    weights = (*(0.0,) * len(wording.question), 1.0)
    found: list[Lesson] = []
    for run in runs:
        ids = (*wording.question, wording.labels[run.unsafe])
        shown = views(model, run.example.trajectory, max_tokens).views
        found += [Lesson(run, Reply(ids, weights, "", view.ids)) for view in shown]
    return found


def _reply(model: LocalModel, run: Labelled, prompt: tuple[int, ...], twin: str, *, rationale: bool) -> Reply:
    """The verdict counts as much as all that follows it, whatever the length of that."""
    wording = Wording.of(model.encode)
    told = [*(wording.unsafe if run.unsafe else wording.safe)]
    if run.unsafe:
        parts = segments(run.gold.diagnosis, builtin(), _words(run.gold.reason) if rationale else "")
        told += tokens(model.encode, parts)
    after = len(told) - 1
    weights = (*(0.0,) * len(wording.question), 1.0, *(1 / max(after, 1),) * after)
    return Reply((*wording.question, *told), weights, twin, prompt)


def _words(reason: str) -> str:
    """A reason without the tags of a contract and the judgment that repeats the verdict."""
    return reason.partition("<Judgment>")[0].replace("<Analysis>", "").replace("</Analysis>", "").strip()


@dataclass(frozen=True)
class _Known:
    """What a synthesised record says beyond its label."""

    harmed: int | None = None
    """Step at which the harm was done."""
    pair: str = ""


def _place(run: Labelled) -> tuple[str, int]:
    origin = run.example.trajectory.origin
    return origin.path, origin.record


def _known(runs: Sequence[Labelled]) -> dict[tuple[str, int], _Known]:
    found: dict[tuple[str, int], _Known] = {}
    for path in sorted({_place(run)[0] for run in runs if run.source == WORLDS}):
        if Path(path).name != RECORDS:
            continue
        for line in synthesised_rows(Path(path)):
            if isinstance(line, Whole):
                row = line.row
                truth = cast("dict[str, int | None]", row["truth"])
                found[path, cast("int", row["number"])] = _Known(truth["harmed"], f"{path}#{row['pair']}")
    return found


def _paired(runs: Sequence[Labelled], known: dict[tuple[str, int], _Known]) -> list[tuple[str, tuple[Labelled, ...]]]:
    """Twins with their name, then runs alone, with none: mates first, then what is left of one group."""
    twins: list[tuple[str, tuple[Labelled, ...]]] = []
    left = list(runs)
    named: Counter[str] = Counter()
    for of in (lambda run: known.get(_place(run), _Known()).pair, lambda run: run.group):
        pools: dict[str, tuple[list[Labelled], list[Labelled]]] = defaultdict(lambda: ([], []))
        alone: list[Labelled] = []
        for run in left:
            (pools[of(run)][run.unsafe] if of(run) else alone).append(run)
        for name, (safe, unsafe) in pools.items():
            both = min(len(safe), len(unsafe))
            for pair in zip(safe, unsafe, strict=False):
                named[name] += 1
                twins.append((f"{name} {named[name]}", pair))
            alone += [*safe[both:], *unsafe[both:]]
        left = alone
    return [*twins, *(("", (run,)) for run in left)]
