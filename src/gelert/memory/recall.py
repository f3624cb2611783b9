"""What a sweep's certificates say together: the p > 1/2 test, first failures, stubborn tokens, where cascades start."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import RecordError
from gelert.memory.cells import Record


@dataclass(frozen=True)
class Tokens:
    """Each supervised token of a cell, text after text."""

    losses: NDArray[np.float32]
    """Nats."""
    right: NDArray[np.bool_]
    """Whether it is the most probable one."""
    sizes: NDArray[np.int64]
    """Tokens of each text."""


def tokens(folder: Path, record: Record) -> Tokens:
    """Those of one cell of the sweep in ``folder``.

    Raises:
        RecordError: its file is not there or damaged.
    """
    path = folder / "tokens" / f"{record.cell.name}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return Tokens(kept["losses"], kept["right"], kept["sizes"])
    except (OSError, ValueError, KeyError) as fault:
        raise RecordError(f"expected the tokens of {record.cell.name}, got: {fault} ({path})") from fault


@dataclass(frozen=True)
class Phase:
    """The test of p > 1/2 over a sweep, and where single texts break."""

    confident: int
    """Tokens with p > 1/2."""
    violations: int
    """Of these, how many are not the most probable one."""
    lucky: int
    """Tokens with p up to 1/2 that are the most probable one all the same: 1/2 is enough, not needed."""
    wrong: int
    """Tokens that are not the most probable one."""
    failing: int
    """Texts that greedy decoding does not give whole."""
    early: int
    """Of these, how many fail before their first token with p up to 1/2: none can."""
    rank_correlation: float
    """Spearman's, of the first doubtful and the first failing token over failing texts; nan where nothing varies."""
    starts: tuple[tuple[int, int], ...]
    """Where cascades start most often: position and number of texts, the commonest first."""


def phase(folder: Path, records: Sequence[Record], *, most: int = 10) -> Phase:
    """Read the tokens of all ``records`` of the sweep in ``folder``."""
    lucky = wrong = 0
    pairs: list[tuple[int, int]] = []
    for record in records:
        own = tokens(folder, record)
        sure = own.losses < np.log(2)
        lucky += int((~sure & own.right).sum())
        wrong += int((~own.right).sum())
        for first, size in zip(np.cumsum(own.sizes) - own.sizes, own.sizes, strict=True):
            part = slice(int(first), int(first + size))
            if not own.right[part].all():
                doubts = np.flatnonzero(~sure[part])
                pairs.append((int(doubts[0]) if len(doubts) else int(size), int(np.argmin(own.right[part]))))
    return Phase(
        confident=sum(record.confident for record in records),
        violations=sum(record.violations for record in records),
        lucky=lucky,
        wrong=wrong,
        failing=len(pairs),
        early=sum(failure < doubt for doubt, failure in pairs),
        rank_correlation=_spearman(pairs),
        starts=tuple(Counter(failure for _, failure in pairs).most_common(most)),
    )


def stubbornness(folder: Path, records: Sequence[Record], length: int) -> NDArray[np.float64]:
    """How often each of the first ``length`` tokens of a text is wrong [length]: the share of cells that hold it.

    Cells that have everything right, or less than half, say nothing about single tokens and are left out.
    """
    wrong, seen = np.zeros(length), np.zeros(length)
    for record in records:
        own = tokens(folder, record)
        if len(own.sizes) == 1 and 0.5 <= own.right.mean() < 1:
            size = min(length, len(own.right))
            wrong[:size] += ~own.right[:size]
            seen[:size] += 1
    return np.where(seen > 0, wrong / np.maximum(seen, 1), np.nan)


def _spearman(pairs: Sequence[tuple[int, int]]) -> float:
    if len({doubt for doubt, _ in pairs}) < 2 or len({failure for _, failure in pairs}) < 2:
        return float("nan")  # nothing varies
    from scipy.stats import spearmanr

    found: Any = spearmanr([doubt for doubt, _ in pairs], [failure for _, failure in pairs])
    return float(found.statistic)
