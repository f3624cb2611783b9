"""What lookups have answered, kept while it cannot have become otherwise: episodes ask the same things of one base."""

from collections.abc import Hashable
from typing import NamedTuple

from gelert.worlds.state import Taint

MOST_CHARACTERS, LONGEST = 8_000_000, 4_000
"""Kept in all, after which everything is forgotten; of one answer, above which it is not kept."""


class Known(NamedTuple):
    """An answer."""

    text: str
    ok: bool
    taint: Taint
    folded: str
    """The text without case, where it is tainted and so will be searched."""


class Memo:
    """Answers by what was asked, bounded."""

    __slots__ = ("_kept", "_size")

    def __init__(self) -> None:
        self._kept: dict[Hashable, Known] = {}
        self._size = 0

    def get(self, asked: Hashable) -> Known | None:
        """The answer, None where it is not kept."""
        return self._kept.get(asked)

    def put(self, asked: Hashable, answer: Known) -> None:
        """Keep an answer."""
        if len(answer.text) > LONGEST:
            return
        if self._size > MOST_CHARACTERS:
            self._kept, self._size = {}, 0
        self._kept[asked] = answer
        self._size += 2 * len(answer.text)
