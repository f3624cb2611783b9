"""Ridge and logistic fits in sample space, leave-one-out in closed form, and the damping that it chooses.

The weights that minimise ``sum_i n_i loss(m_i, y_i) + damping/2 |w|^2`` are combinations of the candidates' gradients,
``w = sum_i a_i g_i``; so N numbers ``a`` and the N x N inner products are all there is to solve. The curvature is
factored once (``Damped``), and the fit, the exact scores and what is left out are read off the factor. float64
throughout.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed

Doubles = NDArray[np.float64]

Loss = Literal["squared", "logistic"]
"""``(m - y)^2 / 2`` or ``log(1 + exp(-y m))``, for labels ``y`` of +1 and -1."""

DAMPINGS = tuple(float(x) for x in np.geomspace(1e-3, 1e3, 13))
"""Tried by ``best_damping``, as shares of the mean squared gradient."""

MOST_STEPS = 100
"""Newton steps of a logistic fit."""

DRAWN = 3_000
"""Of more candidates so many are drawn to choose the damping by: eigenvectors cost many times what the factor does."""


@dataclass(frozen=True)
class Damped:
    """``A = C^1/2 K C^1/2 + damping``, factored: the curvature of a fit with ``C`` summed curvatures, in sample space.

    For N candidates it holds N x N numbers, and as many again once ``diagonal`` or ``block`` is asked for.
    """

    root: Doubles
    """``[N]``: ``C^1/2``."""
    damping: float
    lower: Doubles
    """``[N, N]``: the Cholesky factor, zero above the diagonal."""

    @classmethod
    def of(cls, gram: Doubles, curved: Doubles, damping: float) -> "Damped":
        """Of inner products ``[N, N]`` and each candidate's summed curvature.

        Raises:
            InputError: the damping is not positive, or too small for the inner products' own rounding.
        """
        from scipy.linalg import get_lapack_funcs

        if not damping > 0:
            raise InputError(f"expected a damping above 0, got {damping}")
        root = np.sqrt(curved)
        system = gram * root
        system *= root[:, None]
        system.flat[:: len(root) + 1] += damping
        (factored,) = get_lapack_funcs(("potrf",), (system,))
        lower, failed = factored(system.T, lower=1, clean=1, overwrite_a=1)  # symmetric: .T makes it Fortran's
        if failed:
            raise InputError(f"expected inner products whose damped curvature is positive, got {damping} as damping")
        return cls(root, damping, lower)

    def solve(self, right: Doubles) -> Doubles:
        """``A^-1 right`` of ``[N]`` or ``[N, k]``."""
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve((self.lower, True), right, check_finite=False), dtype=np.float64)

    @cached_property
    def diagonal(self) -> Doubles:
        """``[N]``: of ``A^-1``."""
        return np.einsum("ij,ij->j", self._inverse, self._inverse)

    def block(self, places: Sequence[int]) -> Doubles:
        """``A^-1`` between these candidates."""
        columns = self._inverse[:, list(places)]
        return columns.T @ columns

    @cached_property
    def _inverse(self) -> Doubles:
        """Of the factor: ``A^-1 = L^-T L^-1``."""
        from scipy.linalg import get_lapack_funcs

        (inverted,) = get_lapack_funcs(("trtri",), (self.lower,))
        return np.asarray(inverted(self.lower, lower=1)[0], dtype=np.float64)


def slopes(loss: Loss, margins: Doubles, labels: Doubles) -> Doubles:
    """The loss by the margin."""
    match loss:
        case "squared":
            return margins - labels
        case "logistic":
            return -labels * logistic(-labels * margins)
        case _:
            assert_never(loss)


def curvatures(loss: Loss, margins: Doubles) -> Doubles:
    """The loss by the margin, twice: ``p (1 - p)`` for the logistic one."""
    match loss:
        case "squared":
            return np.ones_like(margins)
        case "logistic":
            return logistic(margins) * logistic(-margins)
        case _:
            assert_never(loss)


def logistic(margins: Doubles) -> Doubles:
    """``1 / (1 + exp(-m))``, without overflow."""
    return 0.5 * (1 + np.tanh(margins / 2))


@dataclass(frozen=True)
class Solved:
    """A fit in sample space."""

    dual: Doubles
    """``[N]``: the weights ``a``; margins are ``gram @ a``."""
    loss: Loss
    damped: Damped
    """The curvature where it stands."""


def solve(gram: Doubles, labels: Doubles, lengths: Doubles, loss: Loss, damping: float) -> Solved:
    """The fit to these labels, from zero.

    Raises:
        InputError: the damping is not positive, or too small for the logistic loss.
    """
    match loss:
        case "squared":
            return ridge(Damped.of(gram, lengths, damping), labels)
        case "logistic":
            return _by_newton(gram, labels, lengths, damping)
        case _:
            assert_never(loss)


def ridge(damped: Damped, labels: Doubles) -> Solved:
    """The fit by the squared loss: ``a = C^1/2 A^-1 C^1/2 y``."""
    return Solved(damped.root * damped.solve(damped.root * labels), "squared", damped)


def left_out(damped: Damped, labels: Doubles, groups: Sequence[str] | None = None) -> Doubles:
    """``[N]``: each candidate's margin by the ridge fitted to the others, or to the other groups, in closed form.

    With ``B = A^-1`` the residuals of a group R that is left out are ``B_RR^-1 (B C^1/2 y)_R / C_R^1/2``; for one
    candidate alone that is a division.
    """
    pulled = damped.solve(damped.root * labels)
    return labels - _residuals(pulled, damped.diagonal, damped.block, groups) / damped.root


def best_damping(
    gram: Doubles, labels: Doubles, lengths: Doubles, groups: Sequence[str] | None = None, *, seed: int = 0
) -> float:
    """The damping, of ``DAMPINGS``, whose squared error on what is left out is least.

    One eigendecomposition serves all of them. Above ``DRAWN`` candidates they are judged on so many, drawn by the seed:
    the best damping is the noise in a label over what the weights vary by, and neither depends on how many runs there
    are.
    """
    if len(labels) > DRAWN:
        random = np.random.default_rng(stream_seed(seed, "damping"))
        places = np.sort(random.permutation(len(labels))[:DRAWN])
        drawn = [str(groups[i]) for i in places] if groups else None
        return best_damping(gram[np.ix_(places, places)], labels[places], lengths[places], drawn)
    root = np.sqrt(lengths)
    size = float((lengths * np.diag(gram)).mean())
    tried = [share * size for share in DAMPINGS]
    values, vectors = np.linalg.eigh(root[:, None] * gram * root)
    errors = [_error_left_out(np.maximum(values, 0) + d, vectors, labels, root, groups) for d in tried]
    return tried[int(np.argmin(errors))]


def _error_left_out(
    values: Doubles, vectors: Doubles, labels: Doubles, root: Doubles, groups: Sequence[str] | None
) -> float:
    """Mean squared residual of what is left out, by the eigenvalues and eigenvectors of ``A``."""
    scaled = vectors / np.sqrt(values)

    def block(places: Sequence[int]) -> Doubles:
        return scaled[list(places)] @ scaled[list(places)].T

    pulled = scaled @ (scaled.T @ (root * labels))
    residual = _residuals(pulled, np.einsum("ij,ij->i", scaled, scaled), block, groups) / root
    return float((residual**2).mean())


def _residuals(
    pulled: Doubles, diagonal: Doubles, block: Callable[[Sequence[int]], Doubles], groups: Sequence[str] | None
) -> Doubles:
    """``B_RR^-1 pulled_R`` of every group R of candidates; without groups each is its own."""
    found = pulled / diagonal
    members: dict[str, list[int]] = {}
    for place, name in enumerate(groups or ()):
        members.setdefault(name, []).append(place)
    for group in (m for m in members.values() if len(m) > 1):
        found[group] = np.linalg.solve(block(group), pulled[group])
    return found


def _by_newton(gram: Doubles, labels: Doubles, lengths: Doubles, damping: float) -> Solved:
    """Newton's step on ``w`` is ``a <- a - (C K + damping)^-1 (n slope + damping a)`` in sample space.

    ``(C K + damping)^-1 = (1 - C^1/2 A^-1 C^1/2 K) / damping``, which divides by no curvature.
    """
    dual = np.zeros(len(labels))
    for _ in range(MOST_STEPS):
        margins = gram @ dual
        damped = Damped.of(gram, lengths * curvatures("logistic", margins), damping)
        wanted = lengths * slopes("logistic", margins, labels) + damping * dual
        step = (damped.root * damped.solve(damped.root * (gram @ wanted)) - wanted) / damping
        if np.abs(step).max() <= 1e-10 * max(np.abs(dual).max(), 1.0):
            return Solved(dual, "logistic", damped)
        dual = dual + step
    raise InputError(f"expected a logistic fit within {MOST_STEPS} steps, got none; take a damping above {damping}")
