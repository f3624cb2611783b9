"""Fewer numbers a gradient, inner products about kept: a seeded sparse random projection."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gelert.core.seeds import stream_seed

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Doubles = NDArray[np.float64]

ENTRIES = 8
"""Places to which each parameter is added; more make the error of a sparse gradient smaller."""


def projection(parameters: int, dimensions: int, seed: int = 0) -> "csr_matrix":
    """``[parameters, dimensions]``: ``ENTRIES`` signs at random places of each row, over the root of their number.

    The expected inner product of two projected vectors is that of the vectors.
    """
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(stream_seed(seed, "sketch", parameters, dimensions))
    entries = min(ENTRIES, dimensions)
    block = np.arange(entries) * dimensions // entries
    size = np.diff(np.append(block, dimensions))
    places = block + random.integers(size, size=(parameters, entries))
    signs = random.choice([-1.0, 1.0], size=(parameters, entries)) / np.sqrt(entries)
    starts = np.arange(parameters + 1) * entries
    return csr_matrix((signs.ravel(), places.ravel(), starts), shape=(parameters, dimensions))


def sketched(gradients: NDArray[np.floating], matrix: "csr_matrix") -> Doubles:
    """``[n, dimensions]`` of gradients ``[n, parameters]``."""
    return np.asarray((matrix.T @ np.asarray(gradients, dtype=np.float64).T).T, dtype=np.float64)
