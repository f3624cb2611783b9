"""Fits a guard's head: once the frozen model has been read, everything is linear algebra.

One ridge regression of the label on every block of features at once, each block with the same weight; see
docs/design/default-guard.md for why and ``benchmarks/guard_designs.py`` for what was tried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed
from gelert.core.taxonomy import Axis
from gelert.evals.benches import WORLDS
from gelert.forge.pool import Pool
from gelert.guard.head import Floats, Head, Normal, TraitMap
from gelert.guard.traits import TRAITS
from gelert.guard.words import BINS, TERMS, VIEWS, WordWeights

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Doubles = NDArray[np.float64]

FEWEST_OF_A_LEAF = 5
"""A leaf with fewer labelled runs is not one of an axis head's answers."""

TRAIT_WEIGHT = float(len(VIEWS))
"""Of the traits' block in the kernel, each other block having 1: as much as all views of the words together."""

COSINES = 1024
"""Of the traits; with as many, the kernel is met to about .03."""

FEWEST_OF_A_TERM = 2
"""A term in fewer windows is not known."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a fit depends on."""

    ridge: float = 2.0
    """Penalty on the squared weights; large keeps what transfers between sources."""
    worlds_weight: float = 0.1
    """How much a window of a synthesised run counts beside one of any other source."""
    axis_ridge: float = 0.3
    """The same penalty of the axis heads."""
    weak_weight: float = 0.3
    """How much a weak label of an axis counts beside a synthesised run's, which the world knows."""


def fit(pool: Pool, recipe: Recipe = Recipe()) -> Head:
    """A head for the verdict, normalised for a source it has not seen.

    Kernel ridge regression (solved in the dual, since windows are fewer than weights) of +1 for unsafe and -1 for safe.
    The kernel is a sum: the mean readouts, the pooled layers, each view of the words and the traits, every block scaled
    to about unit length and centered on its own source (traits: standardised); traits count ``TRAIT_WEIGHT`` times.

    Raises:
        InputError: the runs are all safe or all unsafe.
    """
    unsafe = int(pool.unsafe.sum())
    if not 0 < unsafe < len(pool.unsafe):
        raise InputError(f"expected safe and unsafe runs to fit on, got {unsafe} unsafe of {len(pool.unsafe)}")
    scale = _scale(pool)
    states = (pool.standard(pool.states) * scale[:, None]).reshape(len(pool.owner), -1).astype(np.float64)
    traits = trait_features(pool)
    idf = inverse_frequency(pool.words)
    words = vectors(pool.words, idf)
    centered = _centering(pool)
    kernel = (
        states @ states.T
        + traits @ traits.T
        + centered @ np.asarray((words @ words.T).todense(), dtype=np.float64) @ centered.T
    )
    made = np.where(pool.from_source(WORLDS), recipe.worlds_weight, 1.0)
    target = np.where(pool.unsafe[pool.owner], 1.0, -1.0)[:, None]
    solved, biases = _ridge(kernel, target, recipe.ridge / made)
    dual, bias = solved[:, 0], float(biases[0])
    verdict = (states.T @ dual).reshape(pool.states.shape[1:]) * scale[:, None]
    weights = np.asarray(words.T @ (centered.T @ dual), dtype=np.float64)
    raw = np.asarray(words @ weights, dtype=np.float64)
    names = pool.mixed() or [str(n) for n in np.unique(pool.source)]
    center = float(np.mean([raw[pool.from_source(name)].mean() for name in names]))
    counted = ((traits.T @ dual) * math.sqrt(TRAIT_WEIGHT)).astype(np.float32)
    return Head(
        normal=pool.cold(pool.states),
        verdict=verdict.astype(np.float32),
        words=WordWeights(idf, weights.astype(np.float32), center),
        traits=replace(blank_map(pool.cold(pool.traits)), weights=counted),
        bias=bias,
    )


def trait_features(pool: Pool) -> Doubles:
    """``[m, COSINES]``: the block of the traits, scaled."""
    cosines = blank_map(pool.cold(pool.traits)).cosines(pool.standard(pool.traits))
    return cosines.astype(np.float64) * math.sqrt(TRAIT_WEIGHT)


def blank_map(normal: Normal) -> TraitMap:
    """Cosines of the traits without weights: the same ones in every fit."""
    random = np.random.default_rng(stream_seed(0, "traits"))
    drawn = random.normal(scale=math.sqrt(2 / TRAITS), size=(COSINES, TRAITS)).astype(np.float16)
    phases = random.uniform(0, 2 * math.pi, size=COSINES).astype(np.float32)
    return TraitMap(normal, drawn.astype(np.float32), phases, np.zeros(COSINES, np.float32))


def inverse_frequency(counts: "csr_matrix") -> NDArray[np.float32]:
    """Smoothed inverse document frequency of every term, ``[TERMS]``; 0 for terms too rare to be known."""
    windows = np.bincount(np.asarray(counts.indices), minlength=TERMS)
    found = np.log(len(counts.indptr) / (1 + windows)) + 1
    return np.where(windows >= FEWEST_OF_A_TERM, found, 0).astype(np.float32)


def vectors(counts: "csr_matrix", idf: NDArray[np.float32]) -> "csr_matrix":
    """``gelert.guard.words.weighed`` of every row."""
    from scipy.sparse import csr_matrix

    rows, terms = len(counts.indptr) - 1, np.asarray(counts.indices)
    values = (1 + np.log(counts.data)) * idf[terms]
    block = np.repeat(np.arange(rows), np.diff(counts.indptr)) * len(VIEWS) + terms // BINS
    squares = np.bincount(block, values**2, minlength=rows * len(VIEWS))
    unit = values / np.sqrt(np.maximum(squares, 1e-12))[block]
    return csr_matrix((unit, terms, counts.indptr), shape=(rows, TERMS))


def fit_axes(head: Head, pool: Pool, recipe: Recipe = Recipe()) -> Head:
    """The head with a linear map an axis, fitted to the labelled unsafe runs: ridge regression of which leaf it is.

    States and traits are a block of about unit length each.
    """
    states = pool.standard(pool.states).reshape(len(pool.owner), -1).astype(np.float64)
    traits = pool.standard(pool.traits).astype(np.float64)
    scale = np.repeat([states.shape[1] ** -0.5, traits.shape[1] ** -0.5], [states.shape[1], traits.shape[1]])
    flat = np.hstack([states, traits]) * scale
    trust = np.where(pool.from_source(WORLDS), 1.0, recipe.weak_weight)
    classes: dict[Axis, tuple[str, ...]] = {}
    weights: dict[Axis, Floats] = {}
    for axis in Axis:
        labels = [diagnosis.on(axis) for diagnosis in pool.diagnosis]
        kept = sorted(frequent(labels))
        rows = [i for i, run in enumerate(pool.owner) if labels[run] in kept]
        if len(kept) < 2:
            continue
        which = np.array([[labels[pool.owner[i]] == leaf for leaf in kept] for i in rows], dtype=np.float64)
        dual, biases = _ridge(flat[rows] @ flat[rows].T, which, recipe.axis_ridge / trust[rows])
        classes[axis] = tuple(kept)
        weights[axis] = np.hstack([(dual.T @ flat[rows]) * scale, biases[:, None]]).astype(np.float32)
    return replace(head, classes=classes, axes=weights)


def frequent(labels: Sequence[str | None]) -> set[str]:
    """The leaves with enough labelled runs to be learned."""
    given = [x for x in labels if x is not None]
    return {x for x in set(given) if given.count(x) >= FEWEST_OF_A_LEAF}


def normalised(head: Head, pool: Pool) -> Head:
    """``Head.normalised`` to the windows of a pool."""
    center = float((vectors(pool.words, head.words.idf) @ head.words.weights).mean())
    traits = replace(head.traits, normal=Normal.of(pool.traits))
    return replace(head, normal=Normal.of(pool.states), traits=traits, words=replace(head.words, center=center))


def scores(head: Head, pool: Pool) -> Doubles:
    """The score of each run: that of its worst window."""
    states = np.einsum("nkd,kd->n", head.normal.apply(pool.states), head.verdict)
    words = vectors(pool.words, head.words.idf) @ head.words.weights
    traits = head.traits.score(pool.traits)
    windows = np.asarray(states + words + traits - head.words.center + head.bias, dtype=np.float64)
    found = np.full(len(pool.unsafe), -np.inf)
    np.maximum.at(found, pool.owner, windows)
    return found


def _scale(pool: Pool) -> Doubles:
    """``[rows]``: what makes the readouts together, and the pooled layers together, a block of about unit length."""
    rows, width = pool.states.shape[1:]
    sizes = np.where(np.arange(rows) < pool.readouts, pool.readouts, rows - pool.readouts)
    return 1 / np.sqrt(sizes * width)


def _centering(pool: Pool) -> Doubles:
    """``[m, m]``: takes from each window the mean of its source; of all mixed sources, where its own has one class."""
    mixed = pool.mixed()
    own = {name: pool.from_source(name) / pool.from_source(name).sum() for name in np.unique(pool.source)}
    cold = np.mean([own[name] for name in mixed or own], axis=0)
    means = [own[name] if name in mixed else cold for name in pool.source[pool.owner]]
    return np.eye(len(pool.owner)) - np.stack(means)


def _ridge(kernel: Doubles, targets: Doubles, penalty: Doubles) -> tuple[Doubles, Doubles]:
    """Dual weights ``[m, targets]`` and the (unpenalised) intercepts ``[targets]``."""
    count = len(targets)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = kernel + np.diag(penalty)
    system[count, count] = 0
    found: Doubles = np.linalg.solve(system, np.vstack([targets, np.zeros(targets.shape[1])])).astype(np.float64)
    return found[:count], found[count]
