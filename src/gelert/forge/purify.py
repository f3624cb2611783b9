"""A budget of training runs out of a pool: the greedy best within each stratum, scored anew after every pick.

The guard is a ridge fit, so what a candidate would do to the targets, given those picked before, is closed algebra.
With ``A = G H^-1 G'`` for the runs picked so far, picking z moves every margin by ``A_.z e_z / (1/n_z + A_zz)``, where
``e_z`` is what the fit misses of z's label, and takes ``A_.z A_z. / (1/n_z + A_zz)`` from ``A``. A run like one picked
before is then worth little: groups are judged as groups. A candidate whose label its neighbours contradict is reported
as a suspect label and not picked.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.core import records
from gelert.core.errors import InputError
from gelert.forge.influence.methods import exact
from gelert.forge.influence.problem import Method, Problem, scores
from gelert.forge.influence.solve import left_out

Doubles = NDArray[np.float64]

KIND, VERSION = "purified", 1

NEAREST = 3
"""Targets named for each candidate."""


class Fate(StrEnum):
    """What becomes of a candidate."""

    KEEP = "keep"
    DROP = "drop"
    SUSPECT = "suspect label"


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate's fate, and why."""

    key: str
    stratum: str
    fate: Fate
    reason: str
    value: float
    """What picking it gained the targets when it was picked; of the others its score by the method."""
    rank: int | None
    """How many were picked before it."""
    nearest: tuple[str, ...]
    """The targets it moves most, for better or worse."""


@dataclass(frozen=True, slots=True)
class Names:
    """What candidates and targets are called in records."""

    candidates: tuple[str, ...]
    targets: tuple[str, ...]
    strata: tuple[str, ...]
    """Of the candidates, such as verdict and leaf: each gets its share of the budget."""


def purify(problem: Problem, names: Names, budget: int, *, method: Method | None = None) -> list[Choice]:
    """The fate of every candidate, in their order.

    Args:
        problem: candidates and targets, with a squared loss.
        names: what they are called.
        budget: how many to keep.
        method: scores each candidate once and keeps the best of each stratum; without it, greedily and anew each time.

    Raises:
        InputError: the budget is not positive, the names do not fit, or the loss of a greedy choice is not squared.
    """
    count = len(problem.labels)
    if budget < 1 or not len(names.candidates) == len(names.strata) == count:
        raise InputError(
            f"expected a budget of at least 1 and {count} names and strata, got {budget},"
            f" {len(names.candidates)} and {len(names.strata)}"
        )
    suspect = suspects(problem)
    room = quotas([s for s, bad in zip(names.strata, suspect, strict=True) if not bad], budget)
    attributions = (method or exact)(problem)
    worth = scores(attributions)
    picks = (
        greedy(problem, names.strata, room, suspect) if method is None else _best(worth, names.strata, room, suspect)
    )
    picked = {number: (rank, gain) for rank, (number, gain) in enumerate(picks)}
    taken = Counter(names.strata[number] for number in picked)
    order = np.argsort(-np.abs(attributions), axis=0, kind="stable")[:NEAREST]
    found: list[Choice] = []
    for number, (key, stratum) in enumerate(zip(names.candidates, names.strata, strict=True)):
        nearest = tuple(names.targets[t] for t in order[:, number])
        rank, value = picked.get(number, (None, float(worth[number])))
        if rank is not None:
            fate, reason = Fate.KEEP, f"pick {rank + 1} of {len(picked)}, worth {value:.3g} to the targets"
        elif suspect[number]:
            side = "unsafe" if problem.labels[number] > 0 else "safe"
            fate, reason = Fate.SUSPECT, f"labelled {side}, and the other candidates say the opposite with confidence"
        else:
            full = taken[stratum] >= room.get(stratum, 0)
            fate, reason = Fate.DROP, f"stratum full: {taken[stratum]} better ones" if full else "worth nothing more"
        found.append(Choice(key, stratum, fate, reason, value, rank, nearest))
    return found


def suspects(problem: Problem) -> NDArray[np.bool_]:
    """Candidates that the fit to the others puts on the wrong side, at half the right ones' median or beyond."""
    fit = problem.fit
    others = left_out(problem.products.gram, problem.labels, problem.lengths, [fit.damping])[0]
    agreement = problem.labels * others
    right = agreement[agreement > 0]
    return agreement <= -(float(np.median(right)) / 2 if len(right) else np.inf)


def quotas(strata: Sequence[str], budget: int) -> dict[str, int]:
    """Each stratum's share of the budget: one where the budget allows, the rest by size and largest remainder."""
    sizes = Counter(strata)
    budget = min(budget, len(strata))
    least = 1 if budget >= len(sizes) else 0
    spread = {name: (budget - least * len(sizes)) * size / len(strata) for name, size in sizes.items()}
    room = {name: min(sizes[name], least + int(part)) for name, part in spread.items()}
    order = sorted(sizes, key=lambda name: (int(spread[name]) - spread[name], name))
    while (left := budget - sum(room.values())) > 0:
        for name in [n for n in order if room[n] < sizes[n]][:left]:
            room[name] += 1
    return room


def greedy(
    problem: Problem, strata: Sequence[str], room: dict[str, int], barred: NDArray[np.bool_]
) -> Iterator[tuple[int, float]]:
    """Picks with their gains: each time the candidate after which the targets' mean squared error is least.

    Ends when every stratum is full, or no candidate gains anything. A pick costs N x (M + picks) multiplications.

    Raises:
        InputError: the loss is not squared.
    """
    if problem.fit.loss != "squared":
        raise InputError(f"expected a squared loss to choose greedily, got {problem.fit.loss!r}")
    gram, damping = problem.products.gram, problem.fit.damping
    toward, own = problem.products.cross / damping, np.diag(gram) / damping
    margins, wanted = np.zeros(len(own)), problem.signs.copy()
    codes = np.unique(strata, return_inverse=True)[1]
    left = np.array([room.get(str(name), 0) for name in np.unique(strata)])
    free = ~barred
    picked = np.empty((int(left.sum()), len(own)))
    for rank in range(len(picked)):
        step = (problem.labels - margins) / (1 / problem.lengths + own)
        gains = (step * (wanted @ toward) - step**2 * (toward**2).sum(axis=0) / 2) / len(wanted)
        gains[~free | (left[codes] == 0)] = -np.inf
        best = int(np.argmax(gains))
        if not gains[best] > 0:
            return
        yield best, float(gains[best])
        column = gram[best] / damping - picked[:rank, best] @ picked[:rank]
        root = np.sqrt(1 / problem.lengths[best] + own[best])
        margins = margins + column * step[best]
        wanted = wanted - toward[:, best] * step[best]
        toward = toward - np.outer(toward[:, best], column) / root**2
        picked[rank] = column / root
        own = own - picked[rank] ** 2
        free[best] = False
        left[codes[best]] -= 1


def write(path: Path, choices: Sequence[Choice]) -> None:
    """One record a candidate."""
    records.write(path, KIND, VERSION, (asdict(choice) for choice in choices))


def read(path: Path) -> list[Choice]:
    """The choices of a file.

    Raises:
        RecordError: it is not such a file.
    """
    found: list[Choice] = []
    for row in records.read(path, KIND, VERSION):
        nearest = row["nearest"]
        assert isinstance(nearest, list)
        rank = None if row["rank"] is None else int(str(row["rank"]))
        found.append(
            Choice(
                str(row["key"]), str(row["stratum"]), Fate(str(row["fate"])), str(row["reason"]),
                float(str(row["value"])), rank, tuple(str(name) for name in nearest),
            )
        )  # fmt: skip
    return found


def _best(
    worth: Doubles, strata: Sequence[str], room: dict[str, int], barred: NDArray[np.bool_]
) -> Iterator[tuple[int, float]]:
    left = dict(room)
    for number in (int(i) for i in np.argsort(-worth, kind="stable")):
        stratum = strata[number]
        if not barred[number] and left.get(stratum, 0):
            left[stratum] -= 1
            yield number, float(worth[number])
