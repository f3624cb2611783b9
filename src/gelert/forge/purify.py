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
from gelert.core.taxonomy import Diagnosis
from gelert.evals.benches import Labelled
from gelert.forge.influence.methods import exact
from gelert.forge.influence.problem import Method, Problem, scores
from gelert.forge.influence.solve import left_out

Doubles = NDArray[np.float64]

KIND, VERSION = "purified", 1

NEAREST = 3
"""Targets named for each candidate."""

SUSPECT_AT = 0.75
"""Of the opposite label, which is -1 of one's own.

A suspect is not trained on, and one wrongly accused is a hard run that is lost. Of the thresholds that
``benchmarks/influence.py`` tries on flips planted at 5 %, this is the lowest at which most suspects were flips on each
source and on planted gradients; the next lower one accuses there at least as many right runs as it finds flips.
In a pool of several sources it is wrong more often than right (precision .35): a suspect is to be looked at.
"""


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
    groups: tuple[str, ...]
    """Of the candidates: those that are no independent witnesses of each other's labels, such as twins, share one."""


def purify(problem: Problem, names: Names, budget: int, *, method: Method | None = None) -> list[Choice]:
    """The fate of every candidate, in their order.

    Args:
        problem: candidates and targets, with a squared loss.
        names: what they are called.
        budget: how many to keep; fewer are kept where more would take the targets farther from their signs.
        method: scores each candidate once, and the best of each stratum are kept; without it, see ``greedy``.

    Raises:
        InputError: the budget is not positive, the names do not fit, or the loss of a greedy choice is not squared.
    """
    count = len(problem.labels)
    if budget < 1 or not len(names.candidates) == len(names.strata) == len(names.groups) == count:
        raise InputError(
            f"expected a budget of at least 1 and {count} names, strata and groups, got {budget},"
            f" {len(names.candidates)}, {len(names.strata)} and {len(names.groups)}"
        )
    suspect = suspects(problem, names.groups)
    room = quotas([s for s, bad in zip(names.strata, suspect, strict=True) if not bad], budget)
    attributions = (method or exact)(problem)
    worth = scores(attributions)
    if method is None:
        picks = until_best(list(greedy(problem, names.strata, room, suspect)))
    else:
        picks = list(_best(worth, names.strata, room, suspect))
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
            fate, reason = (
                Fate.DROP,
                f"stratum full: {taken[stratum]} better ones" if full else "the targets gain nothing by more",
            )
        found.append(Choice(key, stratum, fate, reason, value, rank, nearest))
    return found


def name_of(item: Labelled) -> str:
    """What a run is called in records: its source, file and place there."""
    return f"{item.source}/{item.key}"


def kept(runs: Sequence[Labelled], choices: Sequence[Choice], where: str) -> list[Labelled]:
    """The runs without those that the choices name and do not keep; a run that they do not name stays.

    Args:
        runs: to fit a guard to.
        choices: by name.
        where: the file of the choices, for errors.

    Raises:
        InputError: the choices name none of the runs, or two of one name.
    """
    fates = {choice.key: choice.fate for choice in choices}
    called = Counter(name_of(run) for run in runs)
    if not fates.keys() & called.keys():
        raise InputError(f"expected choices among the runs given, got none of them by name ({where})")
    if twice := sorted(name for name in fates.keys() & called.keys() if called[name] > 1):
        raise InputError(
            f"expected one run of each name that is chosen, got {called[twice[0]]} of {twice[0]!r} ({where})"
        )
    return [run for run in runs if fates.get(name_of(run), Fate.KEEP) is Fate.KEEP]


def stratum(diagnosis: Diagnosis, *, unsafe: bool) -> str:
    """Where a run stands in the taxonomy: safe, or unsafe with the leaf of its risk source."""
    return f"unsafe, {diagnosis.risk_source or 'no leaf'}" if unsafe else "safe"


def suspects(problem: Problem, groups: Sequence[str], at: float = SUSPECT_AT) -> NDArray[np.bool_]:
    """Candidates to which the fit to all other groups gives at least ``at`` of the opposite label.

    A twin of the other label would contradict a candidate by construction: it is left out with it, by its group.
    """
    return problem.labels * left_out(problem.squared(), problem.labels, groups) <= -at


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

    Ends when every stratum is full. A gain may be negative: one unsafe run alone pulls every margin up, and only with a
    safe one beside it tells them apart. A pick costs N x (M + picks) multiplications.

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
        gains = (step * (wanted @ toward) - step**2 * np.einsum("tn,tn->n", toward, toward) / 2) / len(wanted)
        gains[~free | (left[codes] == 0)] = -np.inf
        best = int(np.argmax(gains))
        if gains[best] == -np.inf:
            return
        yield best, float(gains[best])
        column = gram[best] / damping - picked[:rank, best] @ picked[:rank]
        root = np.sqrt(1 / problem.lengths[best] + own[best])
        margins = margins + column * step[best]
        wanted = wanted - toward[:, best] * step[best]
        toward -= np.outer(toward[:, best] / root**2, column)
        picked[rank] = column / root
        own = own - picked[rank] ** 2
        free[best] = False
        left[codes[best]] -= 1


def until_best(picks: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The picks up to the one after which the targets' error was least."""
    if not picks:
        return []
    return list(picks[: int(np.argmax(np.cumsum([gain for _, gain in picks]))) + 1])


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
