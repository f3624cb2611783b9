"""Two guards on the same examples: is one better, or is it noise?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gelert.core.errors import InputError
from gelert.evals.metrics import FIGURES, Interval, group_draws
from gelert.evals.run import Judged, as_outcomes


@dataclass(frozen=True, slots=True)
class Comparison:
    """First guard minus second, on the examples that both answered."""

    pairs: int
    differences: dict[str, Interval]
    """Per figure, with a paired bootstrap interval over groups."""
    only_first_right: int
    only_second_right: int
    p_value: float
    """Exact McNemar test on accuracy: two-sided, under equal chances for the discordant pairs."""


def compare(first: Sequence[Judged], second: Sequence[Judged], *, draws: int = 1000, seed: int = 0) -> Comparison:
    """Pair the answers by content and compare.

    Raises:
        InputError: the two runs have no example in common.
    """
    others = {(j.source, j.key, j.content): j for j in second}
    pairs = [(j, others[key]) for j in first if (key := (j.source, j.key, j.content)) in others]
    if not pairs:
        raise InputError("expected two runs over the same examples, got none in common; evaluate both on the same data")
    a, b = as_outcomes([x for x, _ in pairs]), as_outcomes([y for _, y in pairs])
    samples = group_draws(a.group, draws, seed)
    differences: dict[str, Interval] = {}
    for name, figure in FIGURES.items():
        drawn = [figure(a.take(i)) - figure(b.take(i)) for i in samples]
        low, high = np.percentile(drawn, [2.5, 97.5])
        differences[name] = Interval(figure(a) - figure(b), float(low), float(high))
    right_a, right_b = a.alarm == a.unsafe, b.alarm == b.unsafe
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Comparison(len(pairs), differences, only_a, only_b, mcnemar(only_a, only_b))


def mcnemar(first: int, second: int) -> float:
    """Two-sided exact p-value for ``first`` against ``second`` discordant pairs.

    >>> round(mcnemar(1, 9), 4)
    0.0215
    """
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**total)
