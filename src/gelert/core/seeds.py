"""Named random streams: the same name and seed give the same numbers, whatever else drew before."""

import hashlib
import random


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called ``names`` under ``seed``.

    >>> stream_seed(0, "bootstrap") == stream_seed(0, "bootstrap")
    True
    >>> stream_seed(0, "bootstrap") == stream_seed(0, "folds")
    False
    """
    key = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> random.Random:
    """A random generator for the stream called ``names`` under ``seed``."""
    return random.Random(stream_seed(seed, *names))
