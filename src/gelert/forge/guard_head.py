"""Fits a guard's head on labelled runs: read the frozen model once, then everything is linear algebra.

Each source is standardised to itself before the fit, so that what separates the sources (length, domain, style) cannot
pose as what separates safe from unsafe; strong shrinkage keeps what transfers. A new source is normalised by the mean of
the training sources ("cold"), or by its own unlabelled runs ("calibrated").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis
from gelert.core.trajectory import Trajectory
from gelert.guard.features import Place, Readouts, read_whole
from gelert.guard.head import Head
from gelert.guard.windows import WindowPlan

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """Runs as the head sees them."""

    features: Floats
    """``[n, readouts, width]``."""
    unsafe: NDArray[np.bool_]
    source: NDArray[np.str_]
    group: tuple[str, ...]

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> "Pool":
        """The runs at these positions."""
        i = np.asarray(index, dtype=np.intp)
        return Pool(self.features[i], self.unsafe[i], self.source[i], tuple(self.group[k] for k in i))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a fit depends on."""

    shrinkage: float = 1e-3
    """Inverse strength of the L2 penalty of each readout's logistic regression (``C``); small is strong."""


def normals(pool: Pool) -> dict[str, Normal]:
    """Center and spread of each source."""
    return {str(name): Normal.of(pool.features[pool.source == name]) for name in np.unique(pool.source)}


def fit(pool: Pool, recipe: Recipe = Recipe()) -> Head:
    """A head whose normalisation is the cold one.

    One logistic regression a readout on source-standardised features; their log-odds are averaged, which at this
    shrinkage transfers better than one regression on all readouts (``benchmarks/guard_designs.py``).

    Raises:
        InputError: the runs are all safe or all unsafe.
    """
    from sklearn.linear_model import LogisticRegression

    if pool.unsafe.all() or not pool.unsafe.any():
        raise InputError(
            f"expected safe and unsafe runs to fit on, got {int(pool.unsafe.sum())} unsafe of {len(pool.unsafe)}"
        )
    by_source = normals(pool)
    standard = standardise(pool, by_source)
    weights = source_weights(pool)
    readouts = standard.shape[1]
    verdict = np.zeros(standard.shape[1:], dtype=np.float32)
    bias = 0.0
    for k in range(readouts):
        model = LogisticRegression(C=recipe.shrinkage, max_iter=500)
        model.fit(standard[:, k], pool.unsafe, sample_weight=weights)
        verdict[k] = model.coef_[0] / readouts
        bias += float(model.intercept_[0]) / readouts
    cold = Normal.mean([n for name, n in by_source.items() if _both(pool, name)] or list(by_source.values()))
    return Head(cold.center, cold.spread, verdict, bias)


def standardise(pool: Pool, by_source: Mapping[str, Normal]) -> Floats:
    """Every run in units of its own source."""
    out = np.empty_like(pool.features)
    for name, normal in by_source.items():
        mask = pool.source == name
        out[mask] = normal.apply(pool.features[mask])
    return out


def source_weights(pool: Pool) -> NDArray[np.float64]:
    """Weights that sum to ``n``; none is given to a source with one class only, whose label its style would tell."""
    return np.array([1.0 for _ in pool.source])


def scores(head: Head, features: Floats, normal: Normal | None = None) -> NDArray[np.float64]:
    """Log-odds of runs ``[n, readouts, width]``, cold or normalised to ``normal``."""
    used = normal or Normal(head.center, head.spread)
    return np.asarray(np.einsum("nkd,kd->n", used.apply(features), head.verdict) + head.bias, dtype=np.float64)


def _both(pool: Pool, name: str) -> bool:
    labels = pool.unsafe[pool.source == name]
    return bool(labels.any() and not labels.all())
