"""What influence must beat: chance, words, representations, uncertainty, agreement, diversity, and length alone.

Similarities count for a target when the candidate has its label, and against it when it has the other one: a floor that
did not know the labels could not find a flipped one.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gelert.core.seeds import stream_seed
from gelert.forge.influence.problem import Method, Problem
from gelert.forge.influence.solve import left_out

Doubles = NDArray[np.float64]

SATURATION, LENGTH_SHARE = 1.2, 0.75
"""BM25's ``k1`` and ``b``."""

_WORD = re.compile(r"\w+")


def by_chance(seed: int = 0) -> Method:
    """Numbers drawn at random."""

    def method(problem: Problem) -> Doubles:
        return _all(problem, _random(seed, "random").random(len(problem.labels)))

    return method


def length_matched(seed: int = 0) -> Method:
    """Drawn at random among the about equally long: each by how near its length is to that of a random target."""

    def method(problem: Problem) -> Doubles:
        surface, random = problem.seen(), _random(seed, "length")
        own = np.log([len(text) + 1.0 for text in surface.texts])
        wanted = np.log([len(text) + 1.0 for text in surface.target_texts])
        return _all(problem, -np.abs(own - random.choice(wanted, size=len(own))))

    return method


def bm25(problem: Problem) -> Doubles:
    """Okapi BM25 of every candidate's text, each target's text as the query."""
    surface = problem.seen()
    return _agreement(problem) * okapi(surface.texts, surface.target_texts)


def representation(problem: Problem) -> Doubles:
    """Cosine of the frozen model's states."""
    surface = problem.seen()
    return _agreement(problem) * (_unit(surface.target_states) @ _unit(surface.states).T)


def margin(problem: Problem) -> Doubles:
    """Uncertainty: the nearer the fit's margin is to zero, the better."""
    return _all(problem, -np.abs(problem.fit.margins))


def agreement(problem: Problem) -> Doubles:
    """How far the ridge fitted to the other candidates puts each on the side of its label; knows no target."""
    return _all(problem, problem.labels * left_out(problem.squared(), problem.labels))


def diversity(problem: Problem) -> Doubles:
    """The greedy k-centre order: first the candidate nearest the mean, then always the one farthest from the chosen."""
    gram = problem.products.gram
    squares = np.diag(gram)
    order = np.empty(len(gram))
    nearest = np.full(len(gram), np.inf)
    chosen = int(np.argmin(squares - 2 * gram.mean(axis=1)))
    for place in range(len(gram)):
        order[chosen] = -place
        nearest = np.minimum(nearest, squares + squares[chosen] - 2 * gram[chosen])
        nearest[chosen] = -np.inf
        chosen = int(np.argmax(nearest))
    return _all(problem, order)


def okapi(documents: Sequence[str], queries: Sequence[str]) -> Doubles:
    """``[queries, documents]``: BM25, each word of a query counted once.

    ``sum_w idf(w) tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length))`` with
    ``idf = ln(1 + (N - n + .5) / (n + .5))``.
    """
    counts = [Counter(_WORD.findall(text.lower())) for text in documents]
    sizes = np.array([sum(count.values()) for count in counts], dtype=np.float64)
    scale = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * sizes / max(sizes.mean(), 1.0))
    postings: dict[str, list[tuple[int, int]]] = {}
    for number, count in enumerate(counts):
        for word, times in count.items():
            postings.setdefault(word, []).append((number, times))
    found = np.zeros((len(queries), len(documents)))
    weights: dict[str, tuple[NDArray[np.intp], Doubles]] = {}
    for row, query in enumerate(queries):
        for word in sorted(set(_WORD.findall(query.lower())) & postings.keys()):
            if word not in weights:
                at = np.array([number for number, _ in postings[word]], dtype=np.intp)
                times = np.array([times for _, times in postings[word]], dtype=np.float64)
                idf = np.log1p((len(documents) - len(at) + 0.5) / (len(at) + 0.5))
                weights[word] = at, idf * times * (SATURATION + 1) / (times + scale[at])
            at, values = weights[word]
            found[row, at] += values
    return found


def _agreement(problem: Problem) -> Doubles:
    return np.outer(problem.signs, problem.labels)


def _unit(states: Doubles) -> Doubles:
    return states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-300)


def _all(problem: Problem, row: Doubles) -> Doubles:
    """The same for every target."""
    return np.broadcast_to(row, (len(problem.signs), len(row)))


def _random(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(stream_seed(seed, "influence", name))
