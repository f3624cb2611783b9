"""MemFT-SW over the data: a growing prefix of a fixed shuffle is learned, in published steps (arXiv:2605.30260).

The prefix is random, not ordered by difficulty. It is learned in the same batches at every pass.
"""

from dataclasses import dataclass
from typing import Literal

from gelert.core.errors import InputError
from gelert.core.seeds import stream

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the data, stage by stage."""

Family = Literal["qwen", "llama"]


@dataclass(frozen=True)
class Curriculum:
    """When the learned prefix grows."""

    boundaries: tuple[int, ...]
    """The epoch, counted from 0, before which each stage ends; the last is the number of epochs."""
    shares: tuple[float, ...] = SHARES

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip((0, *self.boundaries), self.boundaries, strict=False))
        if not self.boundaries or len(self.boundaries) != len(self.shares) or not rising:
            raise InputError(f"expected {len(self.shares)} rising epochs, one a stage, got {list(self.boundaries)}")
        if not all(0 < share <= 1 for share in self.shares):
            raise InputError(f"expected shares above 0 and up to 1, got {list(self.shares)}")

    @property
    def epochs(self) -> int:
        """Passes over the prefix in all."""
        return self.boundaries[-1]

    def share(self, epoch: int) -> float:
        """Of the data that ``epoch`` learns; the last stage's after the end."""
        return next((s for s, end in zip(self.shares, self.boundaries, strict=True) if epoch < end), self.shares[-1])

    def active(self, epoch: int, samples: int, batch: int) -> int:
        """How many samples ``epoch`` learns: whole batches within the share, one batch at least."""
        return max(int(samples * self.share(epoch) + 1e-9) // batch * batch, min(batch, samples))

    def scaled(self, epochs: int) -> "Curriculum":
        """The same stages over another number of epochs, each one epoch long at least."""
        if epochs < len(self.boundaries):
            raise InputError(f"expected at least {len(self.boundaries)} epochs, one a stage, got {epochs}")
        found: list[int] = []
        for left, end in zip(range(len(self.boundaries), 0, -1), self.boundaries, strict=True):
            wanted = round(end * epochs / self.epochs)
            found.append(min(max(wanted, (found[-1] if found else 0) + 1), epochs - left + 1))
        return Curriculum(tuple(found), self.shares)


def order(seed: int, samples: int) -> list[int]:
    """The shuffle, made once, whose prefixes are learned."""
    numbers = list(range(samples))
    stream(seed, "curriculum").shuffle(numbers)
    return numbers


@dataclass(frozen=True)
class Published:
    """A setting of the temporal curriculum as published for PhoneBook."""

    learning_rate: float
    batch: int
    """Samples a step of the optimiser; those that the published code splits over several passes are taken at once."""
    curriculum: Curriculum


def _published(rate: float, batch: int, *boundaries: int) -> Published:
    return Published(rate, batch, Curriculum(boundaries))


_ROWS = (
    ("qwen", 1000, 1e-2, 10, 20, 40, 60, 80, 300),
    ("qwen", 2000, 1e-2, 10, 20, 40, 60, 80, 300),
    ("qwen", 4000, 1e-2, 10, 30, 60, 90, 120, 350),
    ("qwen", 8000, 7e-3, 40, 30, 60, 90, 120, 350),
    ("qwen", 12000, 5e-3, 80, 60, 120, 180, 240, 500),
    ("qwen", 16000, 5e-3, 80, 80, 160, 240, 320, 600),
    ("qwen", 24000, 5e-3, 80, 80, 160, 240, 320, 600),
    ("qwen", 32000, 5e-3, 80, 100, 200, 300, 400, 700),
    ("llama", 1000, 1e-2, 25, 20, 40, 60, 80, 300),
    ("llama", 2000, 1e-2, 25, 40, 80, 120, 160, 400),
    ("llama", 4000, 7e-3, 50, 40, 80, 120, 160, 400),
    ("llama", 8000, 5e-3, 100, 80, 160, 240, 320, 600),
    ("llama", 12000, 5e-3, 100, 100, 200, 300, 400, 700),
    ("llama", 16000, 5e-3, 100, 100, 200, 300, 400, 700),
    ("llama", 24000, 3e-3, 200, 100, 200, 300, 400, 700),
    ("llama", 32000, 3e-3, 200, 120, 240, 360, 480, 800),
)

PUBLISHED: dict[tuple[str, int], Published] = {
    (family, tokens): _published(rate, batch, *ends) for family, tokens, rate, batch, *ends in _ROWS
}
"""By model family and answer tokens, as in the published code; its paper has 20, 40, 60, 80, 350 for Qwen at 4000."""


def published(family: Family, tokens: int) -> Published:
    """The published setting for the smallest length that is not below ``tokens``, else for the largest.

    >>> published("qwen", 1500).curriculum.boundaries
    (20, 40, 60, 80, 300)
    """
    lengths = sorted(length for name, length in PUBLISHED if name == family)
    return PUBLISHED[family, next((length for length in lengths if length >= tokens), lengths[-1])]
