"""The influence problem of the guard's head: labelled pools in, exact inner products of verdict margins out.

The features are those ``gelert.forge.guard_head`` fits: every block scaled to about unit length, each source centered
on itself, and a constant 1 for the bias. For a linear head they *are* the margin's gradient. A candidate is the mean of
its windows, counted as often as it has windows; a target is the window that decides its verdict, the worst one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.evals.benches import Labelled
from gelert.forge.guard_head import inverse_frequency, vectors
from gelert.forge.influence.problem import Problem, Products, Surface
from gelert.forge.influence.solve import Loss, best_damping, solve
from gelert.forge.pool import Pool
from gelert.guard.prompts.render import render

Doubles = NDArray[np.float64]


def head_problem(
    pool: Pool,
    examples: Sequence[Labelled],
    targets: Sequence[int],
    *,
    loss: Loss = "squared",
    damping: float | None = None,
) -> Problem:
    """The problem of a pool whose runs at positions ``targets`` are targets and whose others are candidates.

    Args:
        pool: candidates and targets, read by one model.
        examples: the runs of the pool.
        targets: their positions.
        loss: that the head is fitted by; the guard's is squared.
        damping: the ridge; without it, what leaving out each group chooses.

    Raises:
        InputError: there is no target, or the candidates are all safe or all unsafe.
    """
    aims = np.unique(np.asarray(targets, dtype=np.intp))
    own = np.setdiff1d(np.arange(len(pool.unsafe)), aims)
    unsafe = int(pool.unsafe[own].sum())
    if not len(aims) or not 0 < unsafe < len(own):
        raise InputError(
            f"expected at least one target, and candidates of both classes, got {len(aims)} targets and"
            f" {len(own)} candidates of which {unsafe} are unsafe"
        )
    kernel, folded = window_products(pool), folding(pool)
    labels, lengths = np.where(pool.unsafe, 1.0, -1.0), np.bincount(pool.owner).astype(np.float64)
    rows = folded[own]
    gram = rows @ kernel @ rows.T
    groups = [pool.group[i] for i in own]
    ridge = best_damping(gram, labels[own], lengths[own], groups) if damping is None else damping
    fitted = solve(gram, labels[own], lengths[own], loss, ridge)
    deciding = worst(pool, kernel @ (rows.T @ fitted.dual))[aims]
    products = Products(
        gram, kernel[deciding] @ rows.T, kernel[deciding, deciding], pool.states[0].size + _known(pool) + 1
    )
    texts = [render(item.example.trajectory).text for item in examples]
    states = folded @ pool.standard().reshape(len(pool.owner), -1).astype(np.float64)
    surface = Surface(tuple(texts[i] for i in own), tuple(texts[i] for i in aims), states[own], states[aims])
    return Problem.solved(products, labels[own], labels[aims], lengths[own], fitted, surface)


def window_products(pool: Pool) -> Doubles:
    """``[m, m]``: inner products of the head's features of every two windows, the constant included."""
    rows, width = pool.states.shape[1:]
    sizes = np.where(np.arange(rows) < pool.readouts, pool.readouts, rows - pool.readouts)
    states = (pool.standard() / np.sqrt(sizes * width)[:, None]).reshape(len(pool.owner), -1).astype(np.float64)
    words = vectors(pool.words, inverse_frequency(pool.words))
    alike = np.asarray((words @ words.T).todense(), dtype=np.float64)
    own = {
        str(name): pool.from_source(str(name)) / pool.from_source(str(name)).sum() for name in np.unique(pool.source)
    }
    mixed = pool.mixed()
    cold = np.mean([own[name] for name in mixed or own], axis=0)
    centers = np.stack([own[str(name)] if name in mixed else cold for name in pool.source[pool.owner]])
    left = alike - centers @ alike
    return states @ states.T + left - left @ centers.T + 1.0


def folding(pool: Pool) -> Doubles:
    """``[n, m]``: takes windows to the mean of each run's."""
    count = np.bincount(pool.owner)
    found = np.zeros((len(count), len(pool.owner)))
    found[pool.owner, np.arange(len(pool.owner))] = 1 / count[pool.owner]
    return found


def worst(pool: Pool, margins: Doubles) -> NDArray[np.intp]:
    """``[n]``: the window of each run with the highest of the ``[m]`` margins."""
    order = np.lexsort((margins, pool.owner))
    return order[np.searchsorted(pool.owner, np.arange(len(pool.unsafe)), side="right") - 1]


def _known(pool: Pool) -> int:
    """Terms that have a weight."""
    return int((inverse_frequency(pool.words) > 0).sum())
