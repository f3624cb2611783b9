"""What two runs have in common: hashed word n-grams, and MinHash to find the runs that have nearly all.

Two runs are near-duplicates if the Jaccard similarity of their 5-word shingles is above a bound. Runs that agree in one
of 24 bands of 8 minima are compared exactly; of pairs at the bound of 0.9 that finds all but about one in a million.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from gelert.core.seeds import stream_seed
from gelert.core.trajectory import Role, Trajectory

Hashes = NDArray[np.uint64]
"""``[k]``, rising, each once."""

SHINGLE = 5
"""Words of a shingle of near-duplicates."""

BANDS, ROWS = 24, 8

_WORD = re.compile(r"\w+")


def text_of_run(run: Trajectory) -> str:
    """What was asked, said, called and given back; not what every run of the world shares (policy, tools)."""
    parts: list[str] = []
    for step in run.steps:
        if step.role is not Role.SYSTEM:
            parts += [step.text, *(f"{call.name} {call.arguments}" for call in step.calls)]
    return " ".join(parts)


def shingles(text: str, words: int) -> Hashes:
    """Hashes of the text's n-grams of ``words`` words, case and punctuation aside; none of a shorter text."""
    found = np.array([_hash(word) for word in _WORD.findall(text.casefold())], dtype=np.uint64)
    if len(found) < words:
        return np.zeros(0, np.uint64)
    count = len(found) - words + 1
    total = np.zeros(count, np.uint64)
    for at in range(words):
        total = (total ^ found[at : at + count]) * _ODD
        total ^= total >> np.uint64(29)
    return np.unique(total)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Share of common elements; 0 where both are empty.

    >>> jaccard(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64))
    0.5
    """
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(len(one) + len(other) - common, 1)


def likely_alike(documents: Sequence[Hashes], seed: int = 0) -> Iterator[tuple[int, int]]:
    """Pairs of positions, the lower first, that agree in a band; in rising order of the higher one."""
    random = np.random.default_rng(stream_seed(seed, "minhash"))
    factors = random.integers(0, 2**64, BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
    offsets = random.integers(0, 2**64, BANDS * ROWS, dtype=np.uint64)
    buckets: list[dict[bytes, list[int]]] = [{} for _ in range(BANDS)]
    for position, hashes in enumerate(documents):
        if not len(hashes):
            continue
        minima = (hashes[None, :] * factors[:, None] + offsets[:, None]).min(1).reshape(BANDS, ROWS)
        earlier: set[int] = set()
        for bucket, band in zip(buckets, minima, strict=True):
            members = bucket.setdefault(band.tobytes(), [])
            earlier.update(members)
            members.append(position)
        yield from ((one, position) for one in sorted(earlier))


_ODD = np.uint64(0x9E3779B97F4A7C15)


@cache
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())
