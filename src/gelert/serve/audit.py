"""Every decision, in an append-only SQLite file: rows chained by SHA-256, the end of the chain and checkpoints signed.

``row.hash = sha256(previous hash, number, entry)``. With each commit the last number and hash are signed with a key
(HMAC-SHA256) that lies in a file of its own, and every 1,000 rows a signature is kept for good.

What it shows: a row that was changed, taken out, put in or moved, and an end that was cut off, by anybody who has not
the key. What it cannot show: who holds the key can write another history; who puts back an older copy of the whole
file goes back to a true but shorter one (compare the head with one that was noted elsewhere: ``gelert audit verify``
prints it); and that a decision was asked for at all. So keep the key, or the head's hash, out of the agent's reach.
"""

import fcntl
import hashlib
import hmac
import os
import queue
import secrets
import sqlite3
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gelert.core.errors import InputError
from gelert.serve.entry import Entry, line

CHECKPOINT_ROWS = 1_000
MOST_IN_ONE_COMMIT = 512
MOST_WAITING = 20_000
"""Entries that wait for the disk; one more fails at once, and its decision says so."""

GENESIS = "0" * 64
"""What stands before the first row."""

_TABLES = """
CREATE TABLE IF NOT EXISTS decision (
  number INTEGER PRIMARY KEY, entry TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS signed (
  kind TEXT NOT NULL, number INTEGER NOT NULL, hash TEXT NOT NULL, signature TEXT NOT NULL,
  PRIMARY KEY (kind, number)) STRICT;
CREATE TRIGGER IF NOT EXISTS unchanging BEFORE UPDATE ON decision
  BEGIN SELECT RAISE(ABORT, 'decisions are only added'); END;
CREATE TRIGGER IF NOT EXISTS lasting BEFORE DELETE ON decision
  BEGIN SELECT RAISE(ABORT, 'decisions are only added; gelert audit prune forgets old ones'); END;
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain."""

    number: int = 0
    hash: str = GENESIS


def chained(previous: str, number: int, entry: str) -> str:
    """The hash of a row."""
    return hashlib.sha256(f"{previous}\n{number}\n{entry}".encode()).hexdigest()


def signature(key: bytes, kind: str, head: Head) -> str:
    """What the key's owner says of a place in the chain; ``kind`` is ``head``, ``checkpoint`` or ``pruned``."""
    said = f"gelert-audit-1\n{kind}\n{head.number}\n{head.hash}"
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def key_path(path: Path) -> Path:
    """Where the key of an audit file lies, if nobody says otherwise."""
    return path.with_name(path.name + ".key")


class Audit:
    """Writes decisions down, in order, from one thread that commits all that wait at once.

    Args:
        path: of the SQLite file.
        key: where the signing key lies; both are made when neither is there.
        power_safe: wait for the disk itself with each commit. Without it a decision outlives the death of the service
            (SIGKILL too) but the last ones may not outlive a power cut; the chain then ends earlier and is whole.

    Raises:
        InputError: another service writes there, the key is missing, or the end of the chain is not what was signed.
    """

    def __init__(self, path: Path, key: Path | None = None, *, power_safe: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _locked(path)
        try:
            self._key = read_key(key or key_path(path), make=not path.exists())
            self._rows = _opened(path, power_safe=power_safe)
            self._head = _signed_head(self._rows, self._key, path)
        except BaseException:
            os.close(self._lock)
            raise
        self._waiting: queue.Queue[tuple[str, Future[int]] | None] = queue.Queue(MOST_WAITING)
        self._writer = threading.Thread(target=self._write, name="gelert-audit", daemon=True)
        self._writer.start()

    @property
    def head(self) -> Head:
        """The last row that is on disk."""
        return self._head

    def append(self, entry: Entry) -> Future[int]:
        """Write one entry down; gives its number once it is on disk, or the fault that kept it from there."""
        done: Future[int] = Future()
        try:
            self._waiting.put_nowait((line(entry), done))
        except ValueError as fault:
            done.set_exception(fault)
        except queue.Full:
            done.set_exception(InputError(f"expected a disk that keeps up, got {MOST_WAITING} entries waiting for it"))
        return done

    def close(self) -> None:
        """Write what waits, and let go of the file; a second time does nothing."""
        if not self._writer.is_alive():
            return
        self._waiting.put(None)
        self._writer.join()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, more = [first], True
            while more and len(batch) < MOST_IN_ONE_COMMIT:
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    self._waiting.put(None)
                    more = False
                else:
                    batch.append(item)
            self._commit(batch)
        self._rows.close()

    def _commit(self, batch: list[tuple[str, Future[int]]]) -> None:
        """One commit for all; an entry that was given up while it waited is not written, for nobody acts on it."""
        before, wanted = self._head, batch
        try:
            with self._rows:
                self._rows.execute("BEGIN IMMEDIATE")
                wanted = [(entry, done) for entry, done in batch if done.set_running_or_notify_cancel()]
                for entry, _ in wanted:
                    self._head = self._add(self._head, entry)
                if wanted:
                    self._sign("head", self._head)
        except Exception as fault:  # noqa: BLE001 - whatever went wrong, none of these is on disk, and all must hear it
            self._head = before
            for _, done in wanted:
                if done.running() or done.set_running_or_notify_cancel():
                    done.set_exception(fault)
            return
        for number, (_, done) in enumerate(wanted, before.number + 1):
            done.set_result(number)

    def _add(self, head: Head, entry: str) -> Head:
        number = head.number + 1
        added = Head(number, chained(head.hash, number, entry))
        self._rows.execute("INSERT INTO decision VALUES (?, ?, ?, ?)", (number, entry, head.hash, added.hash))
        if number % CHECKPOINT_ROWS == 0:
            self._sign("checkpoint", added)
        return added

    def _sign(self, kind: str, head: Head) -> None:
        if kind == "head":
            self._rows.execute("DELETE FROM signed WHERE kind = 'head'")
        row = (kind, head.number, head.hash, signature(self._key, kind, head))
        self._rows.execute("INSERT INTO signed VALUES (?, ?, ?, ?)", row)


def read_key(path: Path, *, make: bool = False) -> bytes:
    """The signing key; a fresh one (0600) if there is none and ``make``.

    Raises:
        InputError: there is none, or it is too short.
    """
    try:
        if make and not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(secrets.token_hex(32).encode())
        found = path.read_bytes().strip()
    except OSError as fault:
        raise InputError(f"expected the audit's key, got {fault.strerror} ({path}); pass --audit-key FILE") from None
    if len(found) < 32:
        raise InputError(f"expected a key of at least 32 bytes, got {len(found)} ({path}); put the right file back")
    return found


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Keep every service from writing there.

    Raises:
        InputError: one does.
    """
    lock = _locked(path)
    try:
        yield
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InputError(f"expected an audit file of its own, but another service writes {path}") from None
    return lock


def _opened(path: Path, *, power_safe: bool) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    rows = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=1.0)
    try:
        rows.execute("PRAGMA journal_mode = WAL")
        rows.execute(f"PRAGMA synchronous = {'FULL' if power_safe else 'NORMAL'}")
        rows.executescript(_TABLES)
    except sqlite3.Error as fault:
        rows.close()
        raise InputError(f"expected an audit file, got {fault} ({path}); move it away or pass --audit FILE") from None
    return rows


def _signed_head(rows: sqlite3.Connection, key: bytes, path: Path) -> Head:
    """Where to go on; a chain whose end is not what was signed is not gone on with."""
    last = rows.execute("SELECT number, hash FROM decision ORDER BY number DESC LIMIT 1").fetchone()
    kept = rows.execute("SELECT number, hash, signature FROM signed WHERE kind = 'head'").fetchone()
    if last is None and kept is None:
        return Head()
    head = Head(*last) if last else Head()
    if kept is None or head != Head(*kept[:2]) or not hmac.compare_digest(kept[2], signature(key, "head", head)):
        rows.close()
        raise InputError(
            f"expected the audit to end where it was signed, and it does not ({path});"
            f" run: gelert audit verify {path}, then move the file away"
        )
    return head
