"""Counts of hashed words and characters in what was said and done: the guard's second sense. numpy only.

Four channels of a run (what the agent said, what it thought, what it called, and everything) are each counted twice: as
words and pairs of words, and as runs of 3 to 5 characters within a word. A term is a place in a table of fixed size, so
nothing grows with the vocabulary and no text is kept. Counts of a run are the sum of its steps' counts.
"""

import re
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import CardError
from gelert.core.trajectory import Role, Step

CHANNELS = ("said", "thought", "calls", "all")
VIEWS = tuple((channel, kind) for channel in CHANNELS for kind in ("words", "characters"))
BINS = 1 << 17
"""Places in one view's table."""

TERMS = len(VIEWS) * BINS
COUNTING = 1
"""Raised whenever a text's terms change: weights fitted to other counts are not reused."""

CHARACTERS = (3, 4, 5)
"""Lengths of the runs of characters."""

Terms = NDArray[np.int64]
"""Places from 0 to ``TERMS`` - 1, one an occurrence."""

_WORD = re.compile(r"\w\w+")
_MULTIPLIER, _MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Counts:
    """How often each term occurs: places (rising) and counts, of equal length."""

    terms: NDArray[np.int64]
    counts: NDArray[np.float32]


class Tally:
    """Counts that grow step by step."""

    def __init__(self) -> None:
        self._table = np.zeros(TERMS, np.float32)

    @property
    def kept_bytes(self) -> int:
        """Of the counts."""
        return self._table.nbytes

    def add(self, terms: Terms) -> None:
        """Count more terms."""
        np.add.at(self._table, terms, np.float32(1))

    def counts(self) -> Counts:
        """What was counted so far."""
        found = np.flatnonzero(self._table)
        return Counts(found, self._table[found])


def step_terms(step: Step, piece: str) -> Terms:
    """The terms of one step; ``piece`` is its rendering."""
    texts = {"all": piece}
    if step.role is Role.AGENT:
        calls = "\n".join(f"{call.name} {call.arguments}" for call in step.calls)
        texts |= {"said": step.text, "thought": step.thought, "calls": calls}
    found: list[Terms] = []
    for view, (channel, kind) in enumerate(VIEWS):
        hashed = (words if kind == "words" else characters)(texts.get(channel, ""))
        found.append((hashed % np.uint64(BINS)).astype(np.int64) + view * BINS)
    return np.concatenate(found)


def words(text: str) -> NDArray[np.uint64]:
    """Hashes of the words of two characters or more, lower case, and of each pair of neighbours."""
    names = (zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(text.lower()))
    single = np.fromiter(names, dtype=np.uint64)
    return _mixed(np.concatenate([single, single[:-1] * _MULTIPLIER + single[1:] + np.uint64(1)]))


def characters(text: str) -> NDArray[np.uint64]:
    """Hashes of the runs of ``CHARACTERS`` characters, lower case, that hold no space but at their ends."""
    spaced = f" {' '.join(text.lower().split())} "
    codes = np.frombuffer(spaced.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    space = codes == ord(" ")
    found: list[NDArray[np.uint64]] = []
    for length in CHARACTERS:
        places = len(codes) - length + 1
        if places < 1:
            continue
        rolled = np.full(places, length, dtype=np.uint64)
        inside = np.zeros(places, dtype=np.bool_)
        for offset in range(length):
            rolled = rolled * _MULTIPLIER + codes[offset : offset + places]
            if 0 < offset < length - 1:
                inside |= space[offset : offset + places]
        found.append(rolled[~inside])
    return _mixed(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def _mixed(hashed: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over the low ones, which choose the place."""
    hashed = (hashed ^ (hashed >> np.uint64(32))) * _MIXER
    return hashed ^ (hashed >> np.uint64(29))


def weighed(counts: Counts, idf: NDArray[np.float32]) -> NDArray[np.float32]:
    """The counts as vectors: ``(1 + ln count) * idf``, each view of length 1 (or 0, where no term is known)."""
    values = (1 + np.log(counts.counts)) * idf[counts.terms]
    view = counts.terms // BINS
    squares = np.bincount(view, values**2, minlength=len(VIEWS))
    return np.asarray(values / np.sqrt(np.maximum(squares, 1e-12))[view], dtype=np.float32)


@dataclass(frozen=True)
class WordWeights:
    """A linear map on the counts' vectors, minus what it gives on the runs the guard is normalised to."""

    idf: NDArray[np.float32]
    """``[TERMS]``; 0 for a term not known."""
    weights: NDArray[np.float32]
    """``[TERMS]``."""
    center: float = 0.0
    """Mean of the map on the runs the guard is normalised to."""

    def __post_init__(self) -> None:
        if self.idf.shape != (TERMS,) or self.weights.shape != (TERMS,):
            raise CardError(f"expected word weights of shape ({TERMS},), got {self.idf.shape}, {self.weights.shape}")

    def raw(self, counts: Counts) -> float:
        """The map's value before the center is taken off."""
        return float(weighed(counts, self.idf) @ self.weights[counts.terms])

    def score(self, counts: Counts) -> float:
        """What the words add to the score."""
        return self.raw(counts) - self.center
