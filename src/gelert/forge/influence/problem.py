"""What every influence method is given: inner products of gradients, labels, the fit, and what stands on the surface.

A guard's decision is one verdict margin ``m(x)``, positive for unsafe. All methods need only inner products of the
margin's gradients ``g = dm/dw``, so that is what is kept: N x N numbers, whatever the number of parameters. For a
linear head ``g`` is the run's feature vector and the inner products are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.forge.influence.solve import Damped, Loss, Solved, ridge, slopes, solve

Doubles = NDArray[np.float64]

CHUNK_ROWS = 1_024
"""Stored gradients in memory at once."""


@dataclass(frozen=True)
class Products:
    """Inner products of the margin's gradients of N candidates and M targets."""

    gram: Doubles
    """``[N, N]``: candidates with candidates."""
    cross: Doubles
    """``[M, N]``: targets with candidates."""
    squares: Doubles
    """``[M]``: targets with themselves."""
    parameters: int
    """Numbers in a gradient."""

    def __post_init__(self) -> None:
        (m, n), shapes = self.cross.shape, (self.gram.shape, self.squares.shape)
        if shapes != ((n, n), (m,)):
            raise InputError(f"expected products of shapes {(n, n)} and {(m,)} beside {(m, n)}, got {shapes}")

    @classmethod
    def of_gradients(cls, candidates: NDArray[np.floating], targets: NDArray[np.floating]) -> "Products":
        """Of gradients ``[N, P]`` and ``[M, P]``, which may be mapped from disk."""
        aims = np.asarray(targets, dtype=np.float64)
        cross = np.empty((len(targets), len(candidates)))
        for start in range(0, len(candidates), CHUNK_ROWS):
            cross[:, start : start + CHUNK_ROWS] = aims @ _rows(candidates, start).T
        return cls(inner(candidates), cross, (aims**2).sum(1), candidates.shape[1])

    def take(self, candidates: NDArray[np.intp]) -> "Products":
        """Of these candidates only."""
        return replace(self, gram=self.gram[np.ix_(candidates, candidates)], cross=self.cross[:, candidates])


def inner(gradients: NDArray[np.floating]) -> Doubles:
    """``[N, N]`` inner products of gradients ``[N, P]``, which may be mapped from disk."""
    found = np.empty((len(gradients), len(gradients)))
    for start in range(0, len(gradients), CHUNK_ROWS):
        left = _rows(gradients, start)
        end = start + len(left)
        for other in range(0, start + 1, CHUNK_ROWS):
            right = left if other == start else _rows(gradients, other)
            found[start:end, other : other + len(right)] = left @ right.T
            found[other : other + len(right), start:end] = found[start:end, other : other + len(right)].T
    return found


def _rows(gradients: NDArray[np.floating], start: int) -> Doubles:
    return np.asarray(gradients[start : start + CHUNK_ROWS], dtype=np.float64)


@dataclass(frozen=True)
class Surface:
    """What floors look at: the runs themselves, not the fit."""

    texts: tuple[str, ...]
    """Of the candidates, rendered."""
    target_texts: tuple[str, ...]
    states: Doubles
    """``[N, width]``: a representation of each candidate by the frozen model."""
    target_states: Doubles
    """``[M, width]``."""


@dataclass(frozen=True)
class Fit:
    """Where the margins stand, and what they were fitted by."""

    margins: Doubles
    """``[N]``: of the candidates."""
    target_margins: Doubles
    """``[M]``."""
    loss: Loss
    damping: float
    """Penalty on half the squared weights: added to the curvature."""


@dataclass(frozen=True)
class Problem:
    """N candidates to train on and M targets whose margins are wanted on the side of their sign."""

    products: Products
    labels: Doubles
    """``[N]``: +1 for unsafe, -1 for safe."""
    signs: Doubles
    """``[M]``: the preference of each target, +1 where it is unsafe."""
    lengths: Doubles
    """``[N]``: how many terms (windows, tokens) a candidate's summed loss has; the gradient given is their mean."""
    fit: Fit
    damped: Damped
    """The fit's curvature, factored."""
    surface: Surface | None = None
    """Needed by the floors that look at the runs."""

    def __post_init__(self) -> None:
        m, n = self.products.cross.shape
        by_candidate, by_target = (self.labels, self.lengths, self.fit.margins), (self.signs, self.fit.target_margins)
        got = [len(part) for part in (*by_candidate, *by_target)]
        if got != [n, n, n, m, m]:
            raise InputError(f"expected {n} candidates and {m} targets in every part of the problem, got {got}")

    @classmethod
    def posed(
        cls,
        products: Products,
        labels: Doubles,
        signs: Doubles,
        lengths: Doubles,
        *,
        loss: Loss = "squared",
        damping: float = 1.0,
        surface: Surface | None = None,
    ) -> "Problem":
        """The problem with its margins fitted to the candidates, from zero."""
        return cls.solved(
            products, labels, signs, lengths, solve(products.gram, labels, lengths, loss, damping), surface
        )

    @classmethod
    def solved(
        cls,
        products: Products,
        labels: Doubles,
        signs: Doubles,
        lengths: Doubles,
        fitted: Solved,
        surface: Surface | None = None,
    ) -> "Problem":
        """The problem of a fit that is there."""
        margins, aimed = products.gram @ fitted.dual, products.cross @ fitted.dual
        fit = Fit(margins, aimed, fitted.loss, fitted.damped.damping)
        return cls(products, labels, signs, lengths, fit, fitted.damped, surface)

    def relabelled(self, labels: Doubles) -> "Problem":
        """The same candidates with other labels, fitted again."""
        if self.fit.loss == "squared":  # whose curvature knows no labels
            fitted = ridge(self.damped, labels)
        else:
            fitted = solve(self.products.gram, labels, self.lengths, self.fit.loss, self.fit.damping)
        return Problem.solved(self.products, labels, self.signs, self.lengths, fitted, self.surface)

    def squared(self) -> Damped:
        """The curvature of the squared loss, whatever loss was fitted: what is left out is of closed form for it."""
        if self.fit.loss == "squared":
            return self.damped
        return Damped.of(self.products.gram, self.lengths, self.fit.damping)

    def slopes(self, loss: Loss | None = None) -> Doubles:
        """``[N]``: each candidate's mean loss by its margin."""
        return slopes(loss or self.fit.loss, self.fit.margins, self.labels)

    def seen(self) -> Surface:
        """What the floors look at.

        Raises:
            InputError: the problem was posed without it.
        """
        if self.surface is None:
            raise InputError("expected the runs' texts and states for this method, got inner products only")
        return self.surface


Method = Callable[[Problem], Doubles]
"""Gives ``[M, N]``: by how much keeping each candidate moves each target's margin to its preferred side.

In a unit of the method's own, up to which methods are compared; a larger number is always better for the target.
"""


def scores(attributions: Doubles) -> Doubles:
    """``[N]``: what each candidate is worth to all targets, their mean."""
    return attributions.mean(axis=0)
