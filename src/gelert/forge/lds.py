"""Is influence true? Fits on subsets, without groups and with planted flips, beside what the scores said of them.

Retraining is the judge: a fit in sample space takes milliseconds, that of the whole guard a second, so the ground truth
is not sampled by proxy. Every figure has a 95 % bootstrap interval.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed
from gelert.evals.metrics import Interval, auc, interval, outcomes, precision, recall
from gelert.forge.influence.problem import Method, Problem, scores
from gelert.forge.influence.registry import FLOORS, METHODS, named
from gelert.forge.influence.solve import solve
from gelert.forge.purify import suspects

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

Retrain = Callable[[Places], Doubles]
"""The targets' margins ``[M]`` after a fit to the candidates at these places."""

FEWEST_SUBSETS = 100


@dataclass(frozen=True)
class Truth:
    """What retraining gave."""

    kept: NDArray[np.bool_]
    """``[fits, N]``: which candidates each fit saw."""
    margins: Doubles
    """``[fits, M]``: the targets' margins on their preferred side."""


def in_sample_space(problem: Problem) -> Retrain:
    """The head fitted again, through the problem's own inner products."""

    def retrain(places: Places) -> Doubles:
        part = problem.products.take(places)
        fit = problem.fit
        found = solve(part.gram, problem.labels[places], problem.lengths[places], fit.loss, fit.damping)
        return part.cross @ found.dual

    return retrain


def subsets_truth(
    problem: Problem, retrain: Retrain, *, subsets: int = FEWEST_SUBSETS, share: float = 0.5, seed: int = 0
) -> Truth:
    """Fits to random subsets that hold ``share`` of the candidates.

    Raises:
        InputError: fewer subsets than a correlation deserves, or a share that leaves nothing in or out.
    """
    count = len(problem.labels)
    size = round(share * count)
    if subsets < FEWEST_SUBSETS or not 0 < size < count:
        raise InputError(
            f"expected at least {FEWEST_SUBSETS} subsets of 1 to {count - 1} candidates, got {subsets} of {size}"
        )
    random = np.random.default_rng(stream_seed(seed, "subsets"))
    chosen = [np.sort(random.permutation(count)[:size]) for _ in range(subsets)]
    return _truth(problem, retrain, chosen)


def groups_truth(problem: Problem, retrain: Retrain, groups: Sequence[str]) -> Truth:
    """Fits that leave out one group of candidates each (a source, a family, a leaf)."""
    names = np.array(groups)
    return _truth(problem, retrain, [np.flatnonzero(names != name) for name in np.unique(names)])


def lds(
    attributions: Doubles, truth: Truth, *, over: Literal["fits", "targets"] = "fits", draws: int = 1000, seed: int = 0
) -> Interval:
    """The linear datamodelling score (arXiv:2303.14186 sec. 3): how sums of scores rank what the fits gave.

    Spearman's correlation over the fits of ``sum_{i kept} score_ti`` with the margin of target t; the mean over
    targets. For the interval ``over`` are drawn again: fits with their ranks, or, where fits are too few as when each
    leaves out one of some groups, targets.
    """
    said, found = _ranks(truth.kept.astype(np.float64) @ attributions.T), _ranks(truth.margins)
    random = np.random.default_rng(stream_seed(seed, "bootstrap"))
    by_target = _correlations(said, found)
    count = len(said) if over == "fits" else len(by_target)
    drawn = random.integers(count, size=(draws, count))
    values = [float((_correlations(said[i], found[i]) if over == "fits" else by_target[i]).mean()) for i in drawn]
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(by_target.mean()), float(low), float(high))


def planted_flips(problem: Problem, share: float = 0.1, seed: int = 0) -> tuple[Problem, NDArray[np.bool_]]:
    """The problem with this share of its labels turned and fitted again, and which were turned."""
    random = np.random.default_rng(stream_seed(seed, "flips"))
    flipped = np.zeros(len(problem.labels), dtype=np.bool_)
    flipped[random.permutation(len(flipped))[: max(round(share * len(flipped)), 1)]] = True
    return problem.relabelled(np.where(flipped, -problem.labels, problem.labels)), flipped


def flip_auc(method: Method, problem: Problem, *, share: float = 0.1, seed: int = 0, draws: int = 1000) -> Interval:
    """How well low scores find planted flips: the area under the ROC curve, candidates drawn again for the interval."""
    turned, flipped = planted_flips(problem, share, seed)
    low_first = -scores(method(turned))
    names = [str(i) for i in range(len(flipped))]
    found = outcomes([bool(f) for f in flipped], [False] * len(names), [float(x) for x in low_first], names)
    return interval(auc, found, draws=draws, seed=seed)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How suspect labels at one threshold agree with planted flips."""

    at: float
    named: int
    """Suspects in all draws together."""
    precision: Interval
    """Of the suspects, those that were turned: a floor where the labels given were not all right before."""
    recall: Interval
    """Of the turned labels, those that are suspects."""


def suspicions(
    problem: Problem, groups: Sequence[str], thresholds: Sequence[float], *, share: float = 0.05, draws: int = 5
) -> list[Suspicion]:
    """Suspect labels at each threshold beside flips planted anew in every draw; groups are drawn for the intervals."""
    planted = [planted_flips(problem, share, seed) for seed in range(draws)]
    turned = np.concatenate([flipped for _, flipped in planted])
    names = [*groups] * draws
    found: list[Suspicion] = []
    for at in thresholds:
        alarms = np.concatenate([suspects(noisy, groups, at) for noisy, _ in planted])
        told = outcomes(turned.tolist(), alarms.tolist(), alarms.tolist(), names)
        found.append(Suspicion(at, int(alarms.sum()), interval(precision, told), interval(recall, told)))
    return found


def suspicions_markdown(rows: Sequence[Suspicion]) -> str:
    """The thresholds for people."""
    head = "| suspect at | suspects | precision | recall |\n|---|---|---|---|\n"
    return head + "\n".join(f"| {r.at:.2f} | {r.named} | {r.precision} | {r.recall} |" for r in rows)


@dataclass(frozen=True, slots=True)
class Row:
    """One method's line of the table."""

    method: str
    lds: Interval
    groups: Interval
    """Leave-group-out: the same correlation over fits without one group."""
    flips: Interval
    """AUC of finding planted label flips."""
    seconds: float
    """To score every candidate for every target, after the inner products."""


def table(
    problem: Problem, groups: Sequence[str], retrain: Retrain, *, subsets: int = FEWEST_SUBSETS, seed: int = 0
) -> list[Row]:
    """Every method and floor against the same retraining; ``groups`` are the candidates'."""
    halves = subsets_truth(problem, retrain, subsets=subsets, seed=seed)
    without = groups_truth(problem, retrain, groups)
    rows: list[Row] = []
    for name in METHODS | FLOORS:
        method = named(name, seed)
        started = time.perf_counter()
        found = method(problem)
        seconds = time.perf_counter() - started
        flips = flip_auc(method, problem, seed=seed)
        left_out = lds(found, without, over="targets", seed=seed)
        rows.append(Row(name, lds(found, halves, seed=seed), left_out, flips, seconds))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    head = "| method | LDS | leave-group-out | flip AUC | seconds |\n|---|---|---|---|---|\n"
    return head + "\n".join(f"| {r.method} | {r.lds} | {r.groups} | {r.flips} | {r.seconds:.3f} |" for r in rows)


def _truth(problem: Problem, retrain: Retrain, chosen: Sequence[Places]) -> Truth:
    kept = np.zeros((len(chosen), len(problem.labels)), dtype=np.bool_)
    for row, places in zip(kept, chosen, strict=True):
        row[places] = True
    return Truth(kept, np.stack([problem.signs * retrain(places) for places in chosen]))


def _correlations(left: Doubles, right: Doubles) -> Doubles:
    """Of each column; 0 for one that does not vary."""
    return (_standard(left) * _standard(right)).sum(axis=0)


def _ranks(values: Doubles) -> Doubles:
    """Ranks within each column, those of ties averaged."""
    found = np.empty_like(values)
    for column in range(values.shape[1]):
        _, inverse, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        found[:, column] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return found


def _standard(ranks: Doubles) -> Doubles:
    centered = ranks - ranks.mean(axis=0)
    return centered / np.maximum(np.linalg.norm(centered, axis=0), 1e-300)
