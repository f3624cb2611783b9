"""Fits a guard's head: once the frozen model has been read, everything is linear algebra.

Strong shrinkage keeps what transfers between sources; see ``benchmarks/guard_designs.py`` and docs/log.md for what was
tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis
from gelert.forge.pool import Pool
from gelert.guard.features import Floats, Normal
from gelert.guard.head import Head

FEWEST_OF_A_LEAF = 5
"""A leaf with fewer labelled runs is not one of an axis head's answers."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a fit depends on."""

    shrinkage: float = 1e-3
    """Inverse strength (``C``) of the L2 penalty of each readout's logistic regression; small is strong."""
    axis_shrinkage: float = 1e-2
    """The same, of the axis heads."""


def fit(pool: Pool, recipe: Recipe = Recipe()) -> Head:
    """A head for the verdict, normalised for a source it has not seen.

    One logistic regression a readout, on features in units of their own source; the log-odds are averaged.

    Raises:
        InputError: the runs are all safe or all unsafe.
    """
    from sklearn.linear_model import LogisticRegression

    unsafe = int(pool.unsafe.sum())
    if not 0 < unsafe < len(pool.unsafe):
        raise InputError(f"expected safe and unsafe runs to fit on, got {unsafe} unsafe of {len(pool.unsafe)}")
    standard = pool.standard()
    readouts = standard.shape[1]
    verdict = np.zeros(standard.shape[1:], dtype=np.float32)
    bias = 0.0
    for k in range(readouts):
        model = LogisticRegression(C=recipe.shrinkage, max_iter=1000).fit(standard[:, k], pool.unsafe)
        verdict[k] = model.coef_[0] / readouts
        bias += float(model.intercept_[0]) / readouts
    cold = cold_normal(pool)
    return Head(cold.center, cold.spread, verdict, bias)


def fit_axes(head: Head, pool: Pool, recipe: Recipe = Recipe()) -> Head:
    """The head with one softmax an axis, fitted to the labelled unsafe runs."""
    from sklearn.linear_model import LogisticRegression

    flat = pool.standard().reshape(len(pool.unsafe), -1)
    classes: dict[Axis, tuple[str, ...]] = {}
    weights: dict[Axis, NDArray[np.float32]] = {}
    for axis in Axis:
        labels = [d.on(axis) for d in pool.diagnosis]
        kept = frequent(labels)
        rows = [i for i, label in enumerate(labels) if label in kept]
        if len(kept) < 2:
            continue
        model = LogisticRegression(C=recipe.axis_shrinkage, max_iter=1000, class_weight="balanced")
        model.fit(flat[rows], [str(labels[i]) for i in rows])
        coefficients, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if len(kept) == 2:  # scikit-learn keeps one row for two classes
            coefficients, intercept = np.vstack([-coefficients, coefficients]), np.concatenate([-intercept, intercept])
        classes[axis] = tuple(str(name) for name in model.classes_)
        weights[axis] = np.hstack([coefficients, intercept[:, None]]).astype(np.float32)
    return replace(head, classes=classes, axes=weights)


def frequent(labels: Sequence[str | None]) -> set[str]:
    """The leaves with enough labelled runs to be learned."""
    given = [x for x in labels if x is not None]
    return {x for x in set(given) if given.count(x) >= FEWEST_OF_A_LEAF}


def cold_normal(pool: Pool) -> Normal:
    """The normalisation for a source not seen: the mean over the sources that hold both classes."""
    normals = pool.normals()
    return Normal.mean([normals[n] for n in pool.mixed()] or list(normals.values()))


def scores(head: Head, features: Floats, normal: Normal | None = None) -> NDArray[np.float64]:
    """Log-odds of runs ``[n, readouts, width]``, cold or normalised to ``normal``."""
    used = normal or Normal(head.center, head.spread)
    return np.asarray(np.einsum("nkd,kd->n", used.apply(features), head.verdict) + head.bias, dtype=np.float64)
