"""The Parametric Memory Law: how much loss an adapter takes away, by its rank and the length of what it holds.

``D(r, l) = C r^alpha l^-beta + b`` nats a token (arXiv:2605.30260 eq. 4), fitted in several ways. Cells that have
learned all they can say nothing of it: the paper leaves out those whose final loss is at most 0.69.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed

SATURATED = 0.69
"""Nats: cells with a final loss up to this are left out, as in the paper."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One cell: what an adapter of rank r did to a text of l tokens."""

    rank: int
    length: int
    initial: float
    """Loss before, nats a token."""
    final: float
    """Loss after."""

    @property
    def gain(self) -> float:
        """What the adapter took away."""
        return self.initial - self.final


@dataclass(frozen=True)
class Estimator:
    """A form of the law and how its distance from the points is measured."""

    name: str
    form: Callable[[Floats, Floats, Floats], Floats]
    """Gain from parameters [k], ranks [n] and lengths [n]."""
    start: Callable[[Floats, Floats, Floats], Floats]
    """Parameters to begin with, from ranks, lengths and gains."""
    names: tuple[str, ...]
    residual: Callable[[Floats, Floats], Floats]
    """Distance of predicted from seen gains."""


@dataclass(frozen=True)
class Fit:
    """An estimator's parameters on some points, and how well it fits them."""

    estimator: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 %, by bootstrap over the cells."""
    r_squared: float
    mape: float
    """Mean absolute error as a share of the gain, percent."""
    worst: float
    """The largest of these, percent."""
    held_out: float
    """The mean when each rank and each length in turn is predicted from the others, percent."""
    held_out_worst: float
    points: int


def _power(p: Floats, ranks: Floats, lengths: Floats) -> Floats:
    return np.exp(p[0]) * ranks ** p[1] * lengths ** -p[2] + (p[3] if len(p) > 3 else 0.0)


def _saturating(p: Floats, ranks: Floats, lengths: Floats) -> Floats:
    return p[0] * -np.expm1(-np.exp(p[1]) * ranks ** p[2] * lengths ** -p[3])


def _straight(ranks: Floats, lengths: Floats, gains: Floats) -> Floats:
    """Least squares of the logarithms: log C, alpha, beta."""
    table = np.stack([np.ones_like(ranks), np.log(ranks), -np.log(lengths)], axis=1)
    return cast("Floats", np.linalg.lstsq(table, np.log(np.maximum(gains, 1e-3)), rcond=None)[0])


def _with_offset(ranks: Floats, lengths: Floats, gains: Floats) -> Floats:
    return np.append(_straight(ranks, lengths, gains), 0.0)


def _bent(ranks: Floats, lengths: Floats, gains: Floats) -> Floats:
    most = float(gains.max()) * 1.1
    return np.concatenate([[most], _straight(ranks, lengths, -np.log1p(-np.minimum(gains / most, 0.99)))])


def _plain(found: Floats, gains: Floats) -> Floats:
    return found - gains


def _share(found: Floats, gains: Floats) -> Floats:
    return (found - gains) / gains


def _logs(found: Floats, gains: Floats) -> Floats:
    return np.log(np.maximum(found, 1e-12)) - np.log(gains)


ESTIMATORS = {
    each.name: each
    for each in (
        Estimator("nls", _power, _with_offset, ("log_c", "alpha", "beta", "b"), _plain),
        Estimator("nls-no-offset", _power, _straight, ("log_c", "alpha", "beta"), _plain),
        Estimator("log", _power, _straight, ("log_c", "alpha", "beta"), _logs),
        Estimator("relative", _power, _with_offset, ("log_c", "alpha", "beta", "b"), _share),
        Estimator("saturating", _saturating, _bent, ("most", "log_k", "alpha", "beta"), _plain),
    )
}
"""``nls`` is the paper's; ``saturating`` is ``D = most (1 - exp(-k r^alpha l^-beta))``."""


def unsaturated(points: Sequence[Point], cut: float = SATURATED) -> list[Point]:
    """The points that the law is about: something is left to learn."""
    return [point for point in points if point.final > cut and point.gain > 0]


def memory_only(points: Sequence[Point], uniform: float) -> list[Point]:
    """The same points without what is learned by giving all tokens equal probability: ``min(L_init, ln V) - L_final``.

    Cells that have learned less than that are left out.

    Args:
        points: as measured.
        uniform: ``ln V`` of the model, nats.
    """
    return [Point(p.rank, p.length, min(p.initial, uniform), p.final) for p in points if p.final < uniform]


def predict(estimator: str, parameters: dict[str, float], rank: float, length: float) -> float:
    """The gain that a fit expects of one cell, nats a token."""
    values = np.array(list(parameters.values()))
    return float(ESTIMATORS[estimator].form(values, np.array([float(rank)]), np.array([float(length)]))[0])


def fit(points: Sequence[Point], estimator: str = "nls", *, resamples: int = 500, seed: int = 0) -> Fit:
    """Fit one form of the law.

    Args:
        points: cells to fit; see ``unsaturated``.
        estimator: a name in ``ESTIMATORS``.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: there are too few points, or they have one rank or one length only.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"expected an estimator among {', '.join(ESTIMATORS)}, got {estimator!r}")
    kind = ESTIMATORS[estimator]
    ranks, lengths, gains = _columns(points)
    if len(points) <= len(kind.names) or len(set(ranks)) < 2 or len(set(lengths)) < 2:
        came = f"{len(points)} of {len(set(ranks))} ranks and {len(set(lengths))} lengths"
        raise InputError(
            f"expected more than {len(kind.names)} unsaturated cells of at least two ranks and two lengths, "
            f"got {came}: sweep longer texts or smaller ranks"
        )
    best = _fitted(kind, ranks, lengths, gains)
    found = kind.form(best, ranks, lengths)
    errors = np.abs(found - gains) / gains
    spread = float(((gains - gains.mean()) ** 2).sum())
    away = _held_out(kind, points)
    return Fit(
        estimator,
        dict(zip(kind.names, best.tolist(), strict=True)),
        _intervals(kind, resampled(points, estimator, resamples=resamples, seed=seed)),
        1 - float(((found - gains) ** 2).sum()) / spread,
        100 * float(errors.mean()),
        100 * float(errors.max()),
        100 * float(away.mean()),
        100 * float(away.max()),
        len(points),
    )


def compare(points: Sequence[Point], *, resamples: int = 500, seed: int = 0) -> list[Fit]:
    """Every estimator's fit, the one that predicts held-out cells best first."""
    fits = [fit(points, name, resamples=resamples, seed=seed) for name in ESTIMATORS]
    return sorted(fits, key=lambda one: one.held_out)


def _columns(points: Sequence[Point]) -> tuple[Floats, Floats, Floats]:
    table = np.array([(p.rank, p.length, p.gain) for p in points], dtype=np.float64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _fitted(kind: Estimator, ranks: Floats, lengths: Floats, gains: Floats) -> Floats:
    from scipy.optimize import least_squares

    def distance(parameters: Floats) -> Floats:
        return kind.residual(kind.form(parameters, ranks, lengths), gains)

    with np.errstate(over="ignore", invalid="ignore"):
        found = least_squares(distance, kind.start(ranks, lengths, gains), x_scale="jac", max_nfev=2000)
    return cast("Floats", found.x)


def _held_out(kind: Estimator, points: Sequence[Point]) -> Floats:
    """Relative error of each cell when all of its rank, or all of its length, is left out."""
    ranks, lengths, gains = _columns(points)
    errors: list[float] = []
    for column in (ranks, lengths):
        for value in np.unique(column):
            out = column == value
            kept = ~out
            if kept.sum() <= len(kind.names) or len(np.unique(ranks[kept])) < 2 or len(np.unique(lengths[kept])) < 2:
                continue
            guess = kind.form(_fitted(kind, ranks[kept], lengths[kept], gains[kept]), ranks[out], lengths[out])
            errors.extend((np.abs(guess - gains[out]) / gains[out]).tolist())
    return np.array(errors or [np.nan])


def resampled(points: Sequence[Point], estimator: str, *, resamples: int = 500, seed: int = 0) -> Floats:
    """Parameters [resamples, k] fitted to cells drawn anew; those of all cells where a draw does not determine them."""
    kind, columns = ESTIMATORS[estimator], _columns(points)
    best = _fitted(kind, *columns)
    generator = np.random.default_rng(stream_seed(seed, "law"))
    found = np.tile(best, (resamples, 1))
    for number in range(resamples):
        rows = generator.integers(0, len(points), len(points))
        ranks, lengths, gains = (column[rows] for column in columns)
        if len(np.unique(ranks)) > 1 and len(np.unique(lengths)) > 1 and len(np.unique(rows)) > len(best):
            found[number] = _fitted(kind, ranks, lengths, gains)
    return found


def _intervals(kind: Estimator, samples: Floats) -> dict[str, tuple[float, float]]:
    if not len(samples):
        return {}
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(kind.names, low, high, strict=True)}


@dataclass(frozen=True)
class Frontier:
    """The longest text that a rank recalled exactly, and what that is in bits."""

    rank: int
    length: int
    """Tokens."""
    parameters: int
    """Effective: ``2 d r - r^2``, for A and B can be turned into each other's frame."""
    bits: float
    """What the model did not know of the text, bits: its loss before, at most ``ln V`` a token."""

    @property
    def bits_a_parameter(self) -> float:
        """Against 2 (knowledge, arXiv:2404.05405) and 3.6 (random data, arXiv:2505.24832)."""
        return self.bits / self.parameters


def frontier(cells: Sequence[tuple[Point, bool]], width: int, uniform: float) -> list[Frontier]:
    """For each rank the longest exactly recalled text; ranks that recalled none are left out.

    Args:
        cells: each with whether it was recalled exactly.
        width: of the branch's input and output.
        uniform: ``ln V`` of the model, nats.
    """
    best: dict[int, Point] = {}
    for point, recalled in cells:
        if recalled and (point.rank not in best or point.length > best[point.rank].length):
            best[point.rank] = point
    return [
        Frontier(r, p.length, 2 * width * r - r * r, p.length * min(p.initial, uniform) / float(np.log(2)))
        for r, p in sorted(best.items())
    ]


def read_csv(path: Path) -> list[Point]:
    """Points of a table with the columns rank, length and gain, as digitised from figures; none counts as saturated.

    Raises:
        InputError: a column is missing or a value is no number above 0; names the line.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    points: list[Point] = []
    for number, row in enumerate(rows, start=2):
        try:
            rank, length, gain = int(row["rank"]), int(row["length"]), float(row["gain"])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"expected numbers rank, length and gain, got {row} ({path} line {number})") from None
        if min(rank, length, gain) <= 0:
            raise InputError(f"expected numbers above 0, got {row} ({path} line {number})")
        points.append(Point(rank, length, gain + 1.0, 1.0))
    return points
