"""The chain of an audit, wherever its rows lie: each row's hash covers the row before it, and some places are signed.

``row.hash = sha256(previous hash, number, entry)``; a signature is an HMAC-SHA256 of a place, its number and hash.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

CHECKPOINT_ROWS = 1_000

GENESIS = "0" * 64
"""What stands before the first row of a chain without a name."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain."""

    number: int = 0
    hash: str = GENESIS


class Row(NamedTuple):
    """One record, in the order of its columns."""

    number: int
    entry: str
    previous: str
    hash: str


class Signed(NamedTuple):
    """One signature, in the order of its columns."""

    kind: str
    """``head``, ``checkpoint`` or ``pruned``."""
    number: int
    hash: str
    signature: str

    @property
    def place(self) -> Head:
        """What is signed."""
        return Head(self.number, self.hash)

    def by(self, key: bytes) -> bool:
        """Whether the key's owner signed it."""
        return hmac.compare_digest(self.signature, signature(key, self.kind, self.place))


@dataclass(frozen=True, slots=True)
class Added:
    """What one commit adds to a chain."""

    rows: Sequence[Row]
    signed: Sequence[Signed]
    """Its checkpoints and its end; none if there is no row."""
    head: Head


def beginning(instance: str) -> Head:
    """What stands before the first row of an instance's chain: no row of one chain fits into another.

    >>> beginning("one") == beginning("two")
    False
    """
    return Head(0, hashlib.sha256(f"gelert-audit-1\ninstance\n{instance}".encode()).hexdigest())


def chained(previous: str, number: int, entry: str) -> str:
    """The hash of a row."""
    return hashlib.sha256(f"{previous}\n{number}\n{entry}".encode()).hexdigest()


def signature(key: bytes, kind: str, head: Head) -> str:
    """What the key's owner says of a place in the chain."""
    said = f"gelert-audit-1\n{kind}\n{head.number}\n{head.hash}"
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def sign(key: bytes, kind: str, head: Head) -> Signed:
    """A place with its signature."""
    return Signed(kind, head.number, head.hash, signature(key, kind, head))


def linked(head: Head, entries: Sequence[str], key: bytes) -> Added:
    """The entries as rows that follow ``head``, with the signatures that are due."""
    rows: list[Row] = []
    signed: list[Signed] = []
    for number, entry in enumerate(entries, head.number + 1):
        row = Row(number, entry, head.hash, chained(head.hash, number, entry))
        rows.append(row)
        head = Head(number, row.hash)
        if number % CHECKPOINT_ROWS == 0:
            signed.append(sign(key, "checkpoint", head))
    if rows:
        signed.append(sign(key, "head", head))
    return Added(rows, signed, head)


def sound_end(start: Head, last: Head | None, signed: Signed | None, key: bytes) -> Head | None:
    """Where a chain can be gone on with; ``None`` if it does not end where it was signed.

    Args:
        start: what stands before its first row.
        last: of its rows, if it has any.
        signed: its end as it was signed, if it was.
        key: with which.
    """
    if last is None and signed is None:
        return start
    return last if signed is not None and signed.place == last and signed.by(key) else None
