"""The influence problem of the guard's head: labelled pools in, exact inner products of verdict margins out.

The features are those ``gelert.forge.guard_head`` fits: every block scaled, each source in its own units, and a
constant 1 for the bias. For a linear head they *are* the margin's gradient.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gelert.evals.benches import Labelled
from gelert.forge.guard_head import COSINES, inverse_frequency, trait_features, vectors
from gelert.forge.influence.problem import Problem
from gelert.forge.influence.runs import centered, runs_problem
from gelert.forge.influence.solve import Loss
from gelert.forge.pool import Pool

Doubles = NDArray[np.float64]


def head_problem(
    pool: Pool,
    examples: Sequence[Labelled],
    targets: Sequence[int],
    *,
    loss: Loss = "squared",
    damping: float | None = None,
) -> Problem:
    """The problem of the head's fit to a pool; see ``gelert.forge.influence.runs.runs_problem``.

    Raises:
        InputError: there is no target, or the candidates are all safe or all unsafe.
    """
    terms = int((inverse_frequency(pool.words) > 0).sum())
    parameters = pool.states[0].size + terms + COSINES + 1
    return runs_problem(window_products(pool), parameters, pool, examples, targets, loss=loss, damping=damping)


def window_products(pool: Pool) -> Doubles:
    """``[m, m]``: inner products of the head's features of every two windows, the constant included."""
    rows, width = pool.states.shape[1:]
    sizes = np.where(np.arange(rows) < pool.readouts, pool.readouts, rows - pool.readouts)
    states = (
        (pool.standard(pool.states) / np.sqrt(sizes * width)[:, None]).reshape(len(pool.owner), -1).astype(np.float64)
    )
    words = vectors(pool.words, inverse_frequency(pool.words))
    alike = np.asarray((words @ words.T).todense(), dtype=np.float64)
    traits = trait_features(pool)
    return states @ states.T + traits @ traits.T + centered(alike, pool) + 1.0
