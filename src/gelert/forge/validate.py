"""What a fitted guard is worth: grouped folds inside a source, and every source held out in turn, beside the floors.

No fit sees the runs that are scored. A figure "calibrated" uses the held-out source's runs without their labels, for
the mean and spread of each feature; the floors are given the same kindness, a threshold at the median of their risks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gelert.core.taxonomy import Axis, Diagnosis
from gelert.core.trajectory import Trajectory
from gelert.evals.baselines import BASELINES
from gelert.evals.benches import WORLDS, Labelled, group_folds
from gelert.evals.metrics import Interval, accuracy, auc, interval, macro_f1, outcomes, recall_at
from gelert.forge.guard_head import Recipe, fit, fit_axes, normalised, scores
from gelert.forge.pool import Pool
from gelert.guard.calibrate import sigmoid
from gelert.guard.head import Features, Floats, Normal
from gelert.guard.words import Counts

Risks = NDArray[np.float64]

FALSE_ALARMS = 0.05

KINDS = ("", " (all sources)")
"""What a floor is fitted to inside a source: that source alone, or all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    source: str
    split: str
    """``in-source`` or ``left out``."""
    judge: str
    """The guard, or the name of a floor; "calibrated" where unlabelled runs of the source set the threshold."""
    runs: int
    accuracy: Interval
    auc: Interval
    recall: Interval
    """At a false-alarm rate of ``FALSE_ALARMS``."""


def table(examples: Sequence[Labelled], pool: Pool, recipe: Recipe, *, folds: int = 5, seed: int = 0) -> list[Row]:
    """Both splits, all sources that hold both classes, guard and floors."""
    rows: list[Row] = []
    for name in pool.mixed():
        rows += in_source(name, examples, pool, recipe, folds=folds, seed=seed)
    if len(pool.mixed()) > 1:
        for name in pool.mixed():
            rows += left_out(name, examples, pool, recipe)
    return rows


def in_source(
    name: str, examples: Sequence[Labelled], pool: Pool, recipe: Recipe, *, folds: int, seed: int
) -> list[Row]:
    """Grouped folds of one source; the guard is fitted to the other sources too, the floors to what suits them."""
    inside = np.flatnonzero(pool.source == name)
    outside = np.flatnonzero(pool.source != name)
    guard = np.zeros(len(inside))
    floors = {f"{floor}{kind}": np.zeros(len(inside)) for floor in BASELINES for kind in KINDS}
    tasks: list[tuple[str, list[int], NDArray[np.intp]]] = []
    for test in group_folds([pool.group[i] for i in inside], folds, seed):
        held = set(test)
        own = np.array([inside[k] for k in range(len(inside)) if k not in held], dtype=np.intp)
        every = np.concatenate([own, outside])
        head = fit(pool.take(every), recipe)
        guard[test] = _risks(scores(normalised(head, pool.take(own)), pool.take(inside[test])))
        tasks += [(f"{floor}{kind}", test, own if kind == "" else every) for floor in BASELINES for kind in KINDS]
    for (floor, test, _), risks in zip(tasks, _fitted(tasks, examples, pool, inside), strict=True):
        floors[floor][test] = risks
    judges = {"guard": guard, **_better(floors, pool, inside)}
    return [_row(name, "in-source", judge, pool, inside, risks, 0.5) for judge, risks in judges.items()]


def _fitted(
    tasks: Sequence[tuple[str, list[int], NDArray[np.intp]]],
    examples: Sequence[Labelled],
    pool: Pool,
    inside: NDArray[np.intp],
) -> list[Risks]:
    """The floors' risks, fitted side by side: they take longer than the guard does."""
    from joblib import Parallel, delayed

    work = (
        delayed(BASELINES[floor.removesuffix(KINDS[1])])(
            _runs(examples, train), _labels(pool, train), _runs(examples, inside[test])
        )
        for floor, test, train in tasks
    )
    return [np.asarray(risks, dtype=np.float64) for risks in Parallel(n_jobs=-1)(work)]


def left_out(name: str, examples: Sequence[Labelled], pool: Pool, recipe: Recipe) -> list[Row]:
    """One source scored by what was fitted to the others."""
    test, train = np.flatnonzero(pool.source == name), np.flatnonzero(pool.source != name)
    head = fit(pool.take(train), recipe)
    runs = pool.take(test)
    cold = _risks(scores(head, runs))
    calibrated = _risks(scores(normalised(head, runs), runs))
    rows = [
        _row(name, "left out", "guard", pool, test, cold, 0.5),
        _row(name, "left out", "guard, calibrated", pool, test, calibrated, 0.5),
    ]
    for floor, baseline in BASELINES.items():
        risks = baseline(_runs(examples, train), _labels(pool, train), _runs(examples, test))
        rows.append(_row(name, "left out", floor, pool, test, risks, 0.5))
        if floor != "always unsafe":
            rows.append(_row(name, "left out", f"{floor}, calibrated", pool, test, risks, float(np.median(risks))))
    return rows


@dataclass(frozen=True, slots=True)
class AxisRow:
    """How well one axis is named, over unsafe runs with a (weak) label there."""

    axis: Axis
    split: str
    """``grouped folds`` over all sources, or ``worlds left out``: synthesised runs of worlds without any in the fit."""
    runs: int
    leaves: int
    accuracy: float
    macro_f1: float
    commonest: float
    """Accuracy of always naming the commonest leaf."""


def axes(pool: Pool, recipe: Recipe, *, folds: int = 5, seed: int = 0) -> list[AxisRow]:
    """Diagnosis of runs that were not fitted, in both splits; each run in units of its own source."""
    rows = _axis_rows("grouped folds", pool, recipe, group_folds(pool.group, folds, seed))
    made = np.flatnonzero(pool.source == WORLDS)
    worlds = [pool.group[i].split("/")[1] for i in made]
    if len(set(worlds)) < 2:
        return rows
    left_out = [[int(made[k]) for k in part] for part in group_folds(worlds, folds, seed)]
    return rows + _axis_rows("worlds left out", pool, recipe, left_out)


def _axis_rows(split: str, pool: Pool, recipe: Recipe, parts: Sequence[Sequence[int]]) -> list[AxisRow]:
    said: dict[int, Diagnosis] = {}
    standard, traits = pool.standard(pool.states), pool.standard(pool.traits)
    nothing = Counts(np.zeros(0, np.int64), np.zeros(0, np.float32))
    last = np.searchsorted(pool.owner, np.arange(len(pool.unsafe)), side="right") - 1
    for test in parts:
        held = set(test)
        train = pool.take([i for i in range(len(pool.unsafe)) if i not in held])
        head = fit_axes(fit(train, recipe), train, recipe)
        unit = replace(
            head, normal=_unit(head.verdict), traits=replace(head.traits, normal=_unit(head.traits.normal.center))
        )
        for i in test:
            said[i] = unit.diagnosis(Features(standard[last[i]], nothing, traits[last[i]]))
    rows: list[AxisRow] = []
    for axis in Axis:
        pairs = [(g, d.on(axis)) for g, d in ((pool.diagnosis[i].on(axis), d) for i, d in sorted(said.items())) if g]
        truth = [g for g, _ in pairs]
        right = sum(g == s for g, s in pairs) / max(len(pairs), 1)
        most = max((truth.count(g) for g in set(truth)), default=0) / max(len(pairs), 1)
        f1 = macro_f1(truth, [s for _, s in pairs])
        rows.append(AxisRow(axis, split, len(pairs), len(set(truth)), right, f1, most))
    return rows


def _unit(like: Floats) -> Normal:
    """Changes nothing."""
    return Normal(np.zeros_like(like), np.ones_like(like))


def _risks(found: NDArray[np.float64]) -> Risks:
    return np.array([sigmoid(float(z)) for z in found])


def margins(rows: Sequence[Row]) -> list[str]:
    """Guard minus the word-count floor in accuracy: the mean over sources and the worst one, for each comparison."""
    told: list[str] = []
    for split, judge, floor in (
        ("in-source", "guard", "word count"),
        ("left out", "guard", "word count"),
        ("left out", "guard, calibrated", "word count"),
        ("left out", "guard, calibrated", "word count, calibrated"),
    ):
        by = {(r.source, r.judge): r.accuracy.value for r in rows if r.split == split}
        found = {s: by[s, judge] - by[s, floor] for s, j in by if j == judge}
        if found:
            worst = min(found, key=lambda s: found[s])
            mean = sum(found.values()) / len(found)
            told.append(f"{split}: {judge} minus {floor}: mean {mean:+.3f}, worst {found[worst]:+.3f} ({worst})")
    return told


def markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    names = ("source", "split", "judge", "runs", "accuracy", "AUC", f"recall at {FALSE_ALARMS:.0%} false alarms")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"
    return head + "\n".join(
        f"| {r.source} | {r.split} | {r.judge} | {r.runs} | {r.accuracy} | {r.auc} | {r.recall} |" for r in rows
    )


def axes_markdown(rows: Sequence[AxisRow]) -> str:
    """The axes for people."""
    head = "| axis | split | runs | leaves | accuracy | macro-F1 | commonest leaf |\n|---|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {r.axis.value} | {r.split} | {r.runs} | {r.leaves} | {r.accuracy:.3f} | {r.macro_f1:.3f} |"
        f" {r.commonest:.3f} |"
        for r in rows
    )


def _better(floors: dict[str, Risks], pool: Pool, inside: NDArray[np.intp]) -> dict[str, Risks]:
    """Of each floor's two fits the more accurate one: a floor is not to be made low."""
    chosen: dict[str, Risks] = {}
    for floor in BASELINES:
        best = max(
            (f"{floor}{kind}" for kind in KINDS), key=lambda k: ((floors[k] >= 0.5) == pool.unsafe[inside]).mean()
        )
        chosen[floor] = floors[best]
    return chosen


def _row(name: str, split: str, judge: str, pool: Pool, index: NDArray[np.intp], risks: Risks, threshold: float) -> Row:
    alarms = [bool(r >= threshold) for r in risks]
    groups = [pool.group[i] for i in index]
    o = outcomes([bool(u) for u in pool.unsafe[index]], alarms, [float(r) for r in risks], groups)
    found = interval(recall_at(FALSE_ALARMS), o)
    return Row(name, split, judge, len(index), interval(accuracy, o), interval(auc, o), found)


def _runs(examples: Sequence[Labelled], index: NDArray[np.intp]) -> list[Trajectory]:
    return [examples[i].example.trajectory for i in index]


def _labels(pool: Pool, index: NDArray[np.intp]) -> list[bool]:
    return [bool(pool.unsafe[i]) for i in index]
