"""Every decision, written down before it is given: rows chained by SHA-256, the chain's end and checkpoints signed.

With each commit the last number and hash are signed with a key that lies in a file of its own, and every 1,000 rows a
signature is kept for good. One service keeps its chain in an SQLite file (``audit_file``); several behind one balancer
keep one chain each in one PostgreSQL database (``audit_postgres``).

What it shows: a row that was changed, taken out, put in or moved, and an end that was cut off, by anybody who has not
the key. What it cannot show: who holds the key can write another history; who puts back an older copy of the whole
store goes back to a true but shorter one (compare the head with one that was noted elsewhere: ``gelert audit verify``
prints it); and that a decision was asked for at all. So keep the key, or the head's hash, out of the agent's reach.
"""

import os
import queue
import secrets
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

from gelert.core.errors import InputError
from gelert.serve.audit_chain import Added, Head, linked
from gelert.serve.audit_file import FileStore
from gelert.serve.entry import Entry, line

MOST_IN_ONE_COMMIT = 512
MOST_WAITING = 20_000
"""Entries that wait for the store; one more fails at once, and its decision says so."""

CLOSING_SECONDS = 10.0
"""For what still waits when the service ends; a store that hangs is not waited for any longer."""


class Store(Protocol):
    """Where one chain lies. Once it is open, one thread alone uses it."""

    @property
    def head(self) -> Head:
        """The last row that is known to be there."""
        ...

    def commit(self, added: Callable[[Head], Added]) -> None:
        """Put down what ``added`` says is to follow the head, all of it or nothing; it is asked as late as can be.

        Any exception means that nobody may act on it. The next commit tries anew.
        """
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class Audit:
    """Writes decisions down, in order, from one thread that commits all that wait at once.

    Args:
        path: of the SQLite file; with another store, where it would be: key and answers of people lie beside it.
        key: where the signing key lies; it is made with a new chain.
        power_safe: wait for the disk itself with each commit. Without it a decision outlives the death of the service
            (SIGKILL too) but the last ones may not outlive a power cut; the chain then ends earlier and is whole.
        store: opens another store than the file, with the key.

    Raises:
        InputError: another service writes there, the key is missing, or the end of the chain is not what was signed.
    """

    def __init__(
        self,
        path: Path,
        key: Path | None = None,
        *,
        power_safe: bool = False,
        store: Callable[[bytes], Store] | None = None,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._key = read_key(key or key_path(path), make=store is not None or not path.exists())
        self._store = store(self._key) if store else FileStore(path, self._key, power_safe=power_safe)
        self._waiting: queue.Queue[tuple[str, Future[int]] | None] = queue.Queue(MOST_WAITING)
        self._writer = threading.Thread(target=self._write, name="gelert-audit", daemon=True)
        self._writer.start()

    @property
    def head(self) -> Head:
        """The last row that is on disk."""
        return self._store.head

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
        """Write what waits, and let go of the store; a second time does nothing."""
        if self._writer.is_alive():
            with suppress(queue.Full):  # a store that hangs: the thread ends with the process
                self._waiting.put(None, timeout=CLOSING_SECONDS)
            self._writer.join(CLOSING_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        going = True
        while going:
            found = [self._waiting.get(), *self._more()]
            going = None not in found
            if batch := [one for one in found if one is not None]:
                self._commit(batch)
        self._store.close()

    def _more(self) -> Generator[tuple[str, Future[int]] | None]:
        """What waits as well, as much as goes into one commit."""
        with suppress(queue.Empty):
            for _ in range(MOST_IN_ONE_COMMIT - 1):
                yield self._waiting.get_nowait()

    def _commit(self, batch: list[tuple[str, Future[int]]]) -> None:
        """One commit for all; an entry that was given up while it waited is not written, for nobody acts on it."""
        wanted = batch

        def added(head: Head) -> Added:
            nonlocal wanted
            wanted = [(entry, done) for entry, done in batch if done.set_running_or_notify_cancel()]
            return linked(head, [entry for entry, _ in wanted], self._key)

        try:
            self._store.commit(added)
        except Exception as fault:  # noqa: BLE001 - whatever went wrong, nobody may act on these, and all must hear it
            for _, done in wanted:
                if done.running() or done.set_running_or_notify_cancel():
                    done.set_exception(fault)
            return
        for number, (_, done) in enumerate(wanted, self.head.number - len(wanted) + 1):
            done.set_result(number)


def key_path(path: Path) -> Path:
    """Where the key of an audit file lies, if nobody says otherwise."""
    return path.with_name(path.name + ".key")


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
