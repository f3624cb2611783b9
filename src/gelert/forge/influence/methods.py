"""Influence from gradients: PRISM as published, the exact damped GGN in sample space, DataInf, gradient cosine.

Signs: a candidate's loss gradient is ``slope * g`` and pulls the fit along ``-slope * g``; a target wants its margin to
move along ``sign * g``. So ``-slope * sign * <g, g'>`` is how a step on the candidate moves the target, to first order.
"""

import numpy as np
from numpy.typing import NDArray

from gelert.forge.influence.problem import Problem
from gelert.forge.influence.solve import logistic

Doubles = NDArray[np.float64]

DATAINF_DAMPING = 0.1
"""Of DataInf: this share of the mean squared loss gradient of a parameter (arXiv:2310.00902 sec. 4)."""


def prism_per_token(problem: Problem) -> Doubles:
    """PRISM with the candidate's loss averaged over its terms, as the targets' losses are.

    ``g_guard = mean_q pi_q (g(y+) - g(y-))`` and ``s(z) = g_z . g_guard`` (arXiv:2605.21422). For the two labels of a
    verdict ``log p(y+) - log p(y-) = sign * m``, so the contrast is ``-sign * g`` and ``pi_q = logistic(sign * m)``.
    """
    preference = logistic(problem.signs * problem.fit.target_margins)
    contrast = -(preference * problem.signs)[:, None] * problem.products.cross
    return contrast * problem.slopes("logistic")


def prism(problem: Problem) -> Doubles:
    """PRISM as published: the candidate's loss is summed, so that a long one has a long gradient."""
    return prism_per_token(problem) * problem.lengths


def exact(problem: Problem) -> Doubles:
    """What each target's margin loses when the candidate is left out: one Newton step with the exact damped GGN.

    ``H = sum_i c_i g_i g_i' + damping`` is inverted in sample space: with ``A = C^1/2 K C^1/2 + damping``, ``g_t' H^-1
    g_i = (cross C^1/2 A^-1 C^-1/2)_ti`` and ``1 - c_i g_i' H^-1 g_i = damping * (A^-1)_ii``. For the squared loss this
    is leave-one-out itself.
    """
    damped = problem.damped
    reach = damped.solve((problem.products.cross * damped.root).T).T
    pull = -problem.lengths * problem.slopes() / (damped.root * damped.damping * damped.diagonal)
    return problem.signs[:, None] * reach * pull


def datainf(problem: Problem) -> Doubles:
    """DataInf (arXiv:2310.00902 eq. 5): the mean of inverses ``(g_i g_i' + damping)^-1`` for the inverse of the mean.

    All parameters are taken as one layer.
    """
    products, slope = problem.products, problem.slopes()
    wanted = -problem.signs * logistic(-problem.signs * problem.fit.target_margins)
    cross = wanted[:, None] * products.cross * slope
    gram = slope[:, None] * products.gram * slope
    squares = np.diag(gram)
    damping = DATAINF_DAMPING * float(squares.mean()) / products.parameters
    corrected = cross - (cross / (damping + squares)) @ gram / len(slope)
    return corrected / damping


def cosine(problem: Problem) -> Doubles:
    """The cosine between the candidate's and the target's loss gradients."""
    sizes = np.sqrt(np.outer(problem.products.squares, np.diag(problem.products.gram)))
    toward = -np.sign(problem.slopes()) * problem.signs[:, None]
    return toward * problem.products.cross / np.maximum(sizes, 1e-300)
