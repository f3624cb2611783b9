"""Reads an audit file: whether its chain is whole, its decisions as JSON Lines, and forgetting old ones."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gelert.core.errors import InputError
from gelert.serve.audit_chain import Head, Row, Signed, chained, sign
from gelert.serve.audit_file import locked

MOST_FAULTS = 20
"""Named one by one; a chain that is broken in more places is broken."""

FAULTY = sqlite3.DatabaseError


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a chain."""

    records: int
    first: int
    """Number of the first record that is kept; those before it were pruned."""
    head: Head
    """The end of the chain as it was computed anew from the records."""
    checkpoints: int
    faults: tuple[str, ...]
    """What does not fit, in order; empty if all is whole."""


def check(path: Path, key: bytes) -> Checked:
    """Check the chain of a file. The service may be writing meanwhile.

    Raises:
        InputError: there is no such file.
    """
    with closing(_reader(path)) as rows:
        try:
            rows.execute("BEGIN")
            signed = rows.execute("SELECT kind, number, hash, signature FROM signed ORDER BY number")
            kept = rows.execute("SELECT number, entry, previous, hash FROM decision ORDER BY number")
            return checked(Head(), (Signed(*one) for one in signed), (Row(*one) for one in kept), key)
        except (FAULTY, TypeError, ValueError, AttributeError) as fault:
            return Checked(0, 0, Head(), 0, (f"expected tables of an audit file, got {fault}",))


def checked(start: Head, signed: Iterable[Signed], rows: Iterable[Row], key: bytes) -> Checked:
    """Compute a chain anew and hold it against every hash and signature.

    Args:
        start: what stands before its first row.
        signed: all its signatures, in order.
        rows: all its rows, in order.
        key: with which it is signed.
    """
    faults: list[str] = []
    sound = _sound(signed, key, faults)
    records, first, head = _chain(start, rows, sound, faults)
    ends = [one.place for one in sound if one.kind == "head"]
    if not ends and (records or sound):
        faults.append("expected a signed end, got none: it was taken out")
    faults += [
        f"expected the chain to end at record {end.number} as it was signed, got its end at {head.number}"
        for end in ends
        if end != head
    ]
    checkpoints = sum(one.kind == "checkpoint" for one in sound)
    return Checked(records, first, head, checkpoints, tuple(faults[:MOST_FAULTS]))


def export(path: Path) -> Iterator[str]:
    """Each record as a line of JSON with its number and hash; says nothing of whether the chain is whole.

    Raises:
        InputError: there is no such file, or it is no audit file.
    """
    with closing(_reader(path)) as rows:
        try:
            for number, entry, found in rows.execute("SELECT number, entry, hash FROM decision ORDER BY number"):
                yield json.dumps({"number": number, **json.loads(entry), "hash": found})
        except (FAULTY, ValueError) as fault:
            raise InputError(f"expected an audit file, got {fault} ({path}); run: gelert audit verify {path}") from None


def prune(path: Path, key: bytes, keep_seconds: float) -> int:
    """Forget the records before the last checkpoint that is older than ``keep_seconds``; says how many.

    Its hash is signed as the place where the chain now begins, so what follows can still be shown to be whole. The last
    record is never forgotten: it is the end that the next one follows.

    Raises:
        InputError: a service writes there, or the chain is not whole (nothing is forgotten then).
    """
    with locked(path):
        found = check(path, key)
        if found.faults:
            raise InputError(f"expected a whole chain before anything is forgotten, got: {found.faults[0]} ({path})")
        with closing(sqlite3.connect(path, isolation_level=None)) as rows, rows:
            rows.execute("BEGIN IMMEDIATE")
            until = time.time() - keep_seconds
            last = rows.execute(
                "SELECT s.number, s.hash FROM signed s JOIN decision d ON d.number = s.number"
                " WHERE s.kind = 'checkpoint' AND json_extract(d.entry, '$.at') < ?"
                " AND s.number < (SELECT max(number) FROM decision) ORDER BY s.number DESC LIMIT 1",
                (until,),
            ).fetchone()
            if last is None:
                return 0
            place = Head(*last)
            rows.execute("INSERT INTO signed VALUES (?, ?, ?, ?)", sign(key, "pruned", place))
            lasting = rows.execute("SELECT sql FROM sqlite_master WHERE name = 'lasting'").fetchone()[0]
            rows.execute("DROP TRIGGER lasting")
            count = rows.execute("DELETE FROM decision WHERE number <= ?", (place.number,)).rowcount
            rows.execute(lasting)
            return count


def _reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise InputError(f"expected an audit file, got none ({path}); gelert serve says where it keeps it")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)


def _sound(signed: Iterable[Signed], key: bytes, faults: list[str]) -> list[Signed]:
    """The signatures that are the key's; of every other a fault is added to ``faults``."""
    found: list[Signed] = []
    for one in signed:
        if one.by(key):
            found.append(one)
        else:
            faults.append(f"expected the {one.kind} of record {one.number} to be signed with this key, and it is not")
    return found


def _chain(start: Head, rows: Iterable[Row], signed: list[Signed], faults: list[str]) -> tuple[int, int, Head]:
    """Number of records, number of the first, and the end; faults are added to ``faults``."""
    places = {one.number: one for one in signed}
    records, first, head = 0, 1, start
    for number, entry, previous, digest in rows:
        if not records and number != 1:
            # Records are forgotten up to a signed place only; if there is none, these were lost.
            pruned = [one.place for one in signed if one.kind == "pruned" and one.number == number - 1]
            first, head = (number, pruned[0]) if pruned else (1, head)
        records += 1
        due = chained(head.hash, head.number + 1, entry)
        if number != head.number + 1:
            faults.append(f"expected record {head.number + 1}, got {number}: records are missing")
        elif (previous, digest) != (head.hash, due):
            faults.append(f"expected record {number} to have hash {due[:12]}…, got {digest[:12]}…: it was changed")
        place = places.get(number)
        if place is not None and place.hash != digest:
            faults.append(f"expected record {number} as it was signed, got another")
        head = Head(number, digest)
    return records, first, head
