"""The audit of one service in an SQLite file of its own, in WAL mode; triggers keep its rows from accidents."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from gelert.core.errors import InputError
from gelert.serve.audit_chain import Added, Head, Signed, sound_end

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


class FileStore:
    """One chain in a file that nobody else writes meanwhile.

    Args:
        path: of the file; made if it is not there.
        key: with which the end of the chain is signed.
        power_safe: wait for the disk itself with each commit.

    Raises:
        InputError: another service writes there, or the end of the chain is not what was signed.
    """

    def __init__(self, path: Path, key: bytes, *, power_safe: bool) -> None:
        self._lock = _locked(path)
        try:
            self._rows = _opened(path, power_safe=power_safe)
            self._head = _end(self._rows, key, path)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def head(self) -> Head:
        """The last row that is on disk."""
        return self._head

    def commit(self, added: Callable[[Head], Added]) -> None:
        """Put down what ``added`` says is to follow the head, all of it or nothing."""
        with self._rows:
            self._rows.execute("BEGIN IMMEDIATE")
            made = added(self._head)
            if made.rows:
                self._rows.executemany("INSERT INTO decision VALUES (?, ?, ?, ?)", made.rows)
                self._rows.execute("DELETE FROM signed WHERE kind = 'head'")
                self._rows.executemany("INSERT INTO signed VALUES (?, ?, ?, ?)", made.signed)
        self._head = made.head

    def close(self) -> None:
        """Let go of the file."""
        self._rows.close()
        os.close(self._lock)


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


def _end(rows: sqlite3.Connection, key: bytes, path: Path) -> Head:
    """Where to go on; a chain whose end is not what was signed is not gone on with."""
    last = rows.execute("SELECT number, hash FROM decision ORDER BY number DESC LIMIT 1").fetchone()
    kept = rows.execute("SELECT kind, number, hash, signature FROM signed WHERE kind = 'head'").fetchone()
    head = sound_end(Head(), Head(*last) if last else None, Signed(*kept) if kept else None, key)
    if head is None:
        rows.close()
        raise InputError(
            f"expected the audit to end where it was signed, and it does not ({path});"
            f" run: gelert audit verify {path}, then move the file away"
        )
    return head
