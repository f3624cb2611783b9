"""What a fitted guard is worth: grouped folds inside a source, and every source held out in turn, beside the floors.

No fit sees the runs that are scored. A figure "calibrated" uses the held-out source's runs without their labels, for
the mean and spread of each feature; the floors are given the same kindness, a threshold at the median of their risks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gelert.core.trajectory import Trajectory
from gelert.evals.baselines import BASELINES
from gelert.evals.benches import Labelled, group_folds
from gelert.evals.metrics import Interval, accuracy, auc, interval, outcomes
from gelert.forge.guard_head import Recipe, fit, scores
from gelert.forge.pool import Pool
from gelert.guard.features import Normal

Risks = NDArray[np.float64]


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
    floors = {f"{floor}{kind}": np.zeros(len(inside)) for floor in BASELINES for kind in ("", " (all sources)")}
    for test in group_folds([pool.group[i] for i in inside], folds, seed):
        held = set(test)
        own = np.array([inside[k] for k in range(len(inside)) if k not in held], dtype=np.intp)
        every = np.concatenate([own, outside])
        head = fit(pool.take(every), recipe)
        normal = Normal.of(pool.features[own])
        guard[test] = sigmoids(scores(head, pool.features[inside[test]], normal))
        for floor, baseline in BASELINES.items():
            for kind, train in (("", own), (" (all sources)", every)):
                risks = baseline(_runs(examples, train), _labels(pool, train), _runs(examples, inside[test]))
                floors[f"{floor}{kind}"][test] = risks
    judges = {"guard": guard, **_better(floors, pool, inside)}
    return [_row(name, "in-source", judge, pool, inside, risks, 0.5) for judge, risks in judges.items()]


def left_out(name: str, examples: Sequence[Labelled], pool: Pool, recipe: Recipe) -> list[Row]:
    """One source scored by what was fitted to the others."""
    test, train = np.flatnonzero(pool.source == name), np.flatnonzero(pool.source != name)
    head = fit(pool.take(train), recipe)
    features = pool.features[test]
    cold = sigmoids(scores(head, features))
    calibrated = sigmoids(scores(head, features, Normal.of(features)))
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


def sigmoids(scores: NDArray[np.float64]) -> Risks:
    """Probabilities of log-odds."""
    return 1 / (1 + np.exp(-np.clip(scores, -60, 60)))


def mean_difference(rows: Sequence[Row], split: str, judge: str, floor: str, figure: Callable[[Row], float]) -> float:
    """The mean over sources of judge minus floor."""
    by_source = {(r.source, r.judge): figure(r) for r in rows if r.split == split}
    sources = sorted({r.source for r in rows if r.split == split})
    return float(np.mean([by_source[s, judge] - by_source[s, floor] for s in sources]))


def markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    head = "| source | split | judge | runs | accuracy | AUC |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(f"| {r.source} | {r.split} | {r.judge} | {r.runs} | {r.accuracy} | {r.auc} |" for r in rows)


def _better(floors: dict[str, Risks], pool: Pool, inside: NDArray[np.intp]) -> dict[str, Risks]:
    """Of each floor's two fits the more accurate one: a floor is not to be made low."""
    chosen: dict[str, Risks] = {}
    for floor in BASELINES:
        kinds = (floor, f"{floor} (all sources)")
        best = max(kinds, key=lambda k: ((floors[k] >= 0.5) == pool.unsafe[inside]).mean())
        chosen[floor] = floors[best]
    return chosen


def _row(name: str, split: str, judge: str, pool: Pool, index: NDArray[np.intp], risks: Risks, threshold: float) -> Row:
    alarms = [bool(r >= threshold) for r in risks]
    groups = [pool.group[i] for i in index]
    o = outcomes([bool(u) for u in pool.unsafe[index]], alarms, [float(r) for r in risks], groups)
    return Row(name, split, judge, len(index), interval(accuracy, o), interval(auc, o))


def _runs(examples: Sequence[Labelled], index: NDArray[np.intp]) -> list[Trajectory]:
    return [examples[i].example.trajectory for i in index]


def _labels(pool: Pool, index: NDArray[np.intp]) -> list[bool]:
    return [bool(pool.unsafe[i]) for i in index]
