"""Ridge and logistic fits in sample space, leave-one-out in closed form, and the damping that it chooses.

The weights that minimise ``sum_i n_i loss(m_i, y_i) + damping/2 |w|^2`` are combinations of the candidates' gradients,
``w = sum_i a_i g_i``; so N numbers ``a`` and the N x N inner products are all there is to solve. float64 throughout.
"""

from collections.abc import Sequence
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError

Doubles = NDArray[np.float64]

Loss = Literal["squared", "logistic"]
"""``(m - y)^2 / 2`` or ``log(1 + exp(-y m))``, for labels ``y`` of +1 and -1."""

DAMPINGS = tuple(float(x) for x in np.geomspace(1e-3, 1e3, 13))
"""Tried by ``best_damping``, as shares of the mean squared gradient."""

MOST_STEPS = 100
"""Newton steps of a logistic fit."""


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


def solve(gram: Doubles, labels: Doubles, lengths: Doubles, loss: Loss, damping: float) -> Doubles:
    """The dual weights ``a`` ``[N]`` of the fit; margins are ``gram @ a``.

    Newton's step on ``w`` is ``a <- (C K + damping)^-1 (C m - n slope)`` in sample space; the squared loss needs one.

    Raises:
        InputError: the damping is not positive, or too small for the logistic loss.
    """
    if not damping > 0:
        raise InputError(f"expected a damping above 0, got {damping}")
    dual = np.zeros(len(labels))
    for _ in range(MOST_STEPS):
        margins = gram @ dual
        curved = lengths * curvatures(loss, margins)
        wanted = curved * margins - lengths * slopes(loss, margins, labels)
        step = np.linalg.solve(curved[:, None] * gram + damping * np.eye(len(labels)), wanted) - dual
        dual = dual + step
        if loss == "squared" or np.abs(step).max() <= 1e-10 * max(np.abs(dual).max(), 1.0):
            return dual
    raise InputError(f"expected a logistic fit within {MOST_STEPS} steps, got none; take a damping above {damping}")


def left_out(
    gram: Doubles, labels: Doubles, lengths: Doubles, damping: float, groups: Sequence[str] | None = None
) -> Doubles:
    """``[N]``: each candidate's margin by the ridge fitted to the others, or to the other groups, in closed form.

    With ``B = (W^1/2 K W^1/2 + damping)^-1`` the residuals of a group R that is left out are ``B_RR^-1 (B W^1/2 y)_R
    / W_R^1/2``; for one candidate alone that is a division.
    """
    root = np.sqrt(lengths)
    inverse = np.linalg.inv(root[:, None] * gram * root + damping * np.eye(len(root)))
    pulled = inverse @ (root * labels)
    residual = pulled / (np.diag(inverse) * root)
    members: dict[str, list[int]] = {}
    for place, name in enumerate(groups or ()):
        members.setdefault(name, []).append(place)
    for group in (m for m in members.values() if len(m) > 1):
        residual[group] = np.linalg.solve(inverse[np.ix_(group, group)], pulled[group]) / root[group]
    return labels - residual


def best_damping(gram: Doubles, labels: Doubles, lengths: Doubles, groups: Sequence[str] | None = None) -> float:
    """The damping, of ``DAMPINGS``, whose squared error on what is left out is least."""
    size = float((lengths * np.diag(gram)).mean())
    tried = [share * size for share in DAMPINGS]
    errors = [float(((left_out(gram, labels, lengths, d, groups) - labels) ** 2).mean()) for d in tried]
    return tried[int(np.argmin(errors))]
