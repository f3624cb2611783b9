"""From inner products of windows to a problem of runs: what the guard's head and an adapter have in common.

A candidate is the mean of its windows, counted as often as it has windows; a target is the window that decides its
verdict, the worst one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.evals.benches import Labelled
from gelert.forge.influence.problem import Problem, Products, Surface
from gelert.forge.influence.solve import Loss, best_damping, solve
from gelert.forge.pool import Pool
from gelert.guard.prompts.render import render

Doubles = NDArray[np.float64]


def runs_problem(
    kernel: Doubles,
    parameters: int,
    pool: Pool,
    examples: Sequence[Labelled],
    targets: Sequence[int],
    *,
    loss: Loss = "squared",
    damping: float | None = None,
) -> Problem:
    """The problem of a pool whose runs at positions ``targets`` are targets and whose others are candidates.

    Args:
        kernel: ``[m, m]`` inner products of the gradients of every two windows of the pool.
        parameters: numbers in a gradient.
        pool: candidates and targets, read by one model.
        examples: the runs of the pool.
        targets: their positions.
        loss: that the margin is fitted by; the guard's is squared.
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
    labels, lengths = np.where(pool.unsafe, 1.0, -1.0), np.bincount(pool.owner).astype(np.float64)
    gram = folded(pool, folded(pool, kernel).T)[np.ix_(own, own)]
    groups = [pool.group[i] for i in own]
    ridge = best_damping(gram, labels[own], lengths[own], groups) if damping is None else damping
    fitted = solve(gram, labels[own], lengths[own], loss, ridge)
    dual = np.zeros(len(pool.unsafe))
    dual[own] = fitted.dual
    deciding = worst(pool, kernel @ (dual / lengths)[pool.owner])[aims]
    cross = folded(pool, kernel[:, deciding])[own].T
    products = Products(gram, cross, kernel[deciding, deciding], parameters)
    texts = [render(item.example.trajectory).text for item in examples]
    states = folded(pool, pool.standard(pool.states).reshape(len(pool.owner), -1).astype(np.float64))
    surface = Surface(tuple(texts[i] for i in own), tuple(texts[i] for i in aims), states[own], states[aims])
    return Problem.solved(products, labels[own], labels[aims], lengths[own], fitted, surface)


def centered(kernel: Doubles, pool: Pool) -> Doubles:
    """``[m, m]``: the inner products when each source is centered on itself, so that what separates sources is gone.

    A source with one class only is centered on the mean of the others.
    """
    names, mixed = [str(name) for name in np.unique(pool.source)], pool.mixed()
    own = np.stack([pool.from_source(name) / pool.from_source(name).sum() for name in names])
    own[[name not in mixed for name in names]] = own[[name in (mixed or names) for name in names]].mean(axis=0)
    source = np.searchsorted(names, pool.source[pool.owner])
    left = kernel - (own @ kernel)[source]
    left -= (left @ own.T)[:, source]
    return left


def folded(pool: Pool, rows: Doubles) -> Doubles:
    """``[n, k]``: the mean over each run's windows of rows ``[m, k]``."""
    starts = np.searchsorted(pool.owner, np.arange(len(pool.unsafe)))
    return np.add.reduceat(rows, starts, axis=0) / np.bincount(pool.owner)[:, None]


def worst(pool: Pool, margins: Doubles) -> NDArray[np.intp]:
    """``[n]``: the window of each run with the highest of the ``[m]`` margins."""
    order = np.lexsort((margins, pool.owner))
    return order[np.searchsorted(pool.owner, np.arange(len(pool.unsafe)), side="right") - 1]
