"""The audit of several services in one PostgreSQL database: one table, and in it one chain per instance.

Rows of several writers have no order that all of them saw, and a chain through all of them would make each decision
wait for every other instance. So each instance keeps its own chain under its own name: numbers start at 1, the name is
what stands before the first row, and the chain is checked by itself. It shows what a chain in a file shows. What holds
of one chain says nothing of another: which of two instances decided first is not on record (``at`` is each one's
clock), and a chain that is gone as a whole is missed only by who knows its name or noted its head.

The tables and the role, which can only add and read, are in ``audit.sql``: ``gelert audit schema`` prints it. The
instance holds its name by an advisory lock while it is connected, so a pooler in between must keep the session.

A commit whose answer was lost may have happened: its entries fail, so their decisions are given as degraded, and with
the next connection the chain goes on from where the database says it ends, if that is before or after that commit and
nowhere else. How safe a commit is from the death of the database's machine is the database's ``synchronous_commit``.
"""

import importlib.resources
import os
import re
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from gelert.core.errors import InputError
from gelert.serve.audit_chain import Added, Head, Signed, beginning, sound_end
from gelert.serve.redact import redacted

HANGING_SECONDS = 8.0
"""A server, or whatever is in between, that takes longer than its own limits let it is not waited for."""

BOUNDS = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}
"""Of a connection, where its URL says nothing else: a network that is silent for so long has lost it."""

SETTINGS = {
    "lock_timeout": 2_000,
    "statement_timeout": 5_000,
    "tcp_user_timeout": 5_000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 2,
}
"""Of a session: the server, too, soon lets go of an instance whose machine is gone, and of its name."""

_BEGIN = "BEGIN; LOCK TABLE gelert.decision, gelert.signed IN ROW EXCLUSIVE MODE"
"""Adding rows locks as much anyway; so whoever holds them up does it before it is settled what is written."""

_SET = sql.SQL("; ").join(sql.SQL("SET {} = {}").format(sql.Identifier(n), value) for n, value in SETTINGS.items())
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")

Connection = psycopg.Connection[TupleRow]


def schema() -> str:
    """The SQL that makes the tables, their triggers and the role of the writers."""
    return importlib.resources.files("gelert.serve").joinpath("audit.sql").read_text(encoding="utf-8")


def connected(url: str) -> Connection:
    """A connection that gives up in time.

    Raises:
        InputError: the URL is none, or the database does not answer.
    """
    try:
        bounds = {name: value for name, value in BOUNDS.items() if name not in conninfo_to_dict(url)}
        return psycopg.connect(make_conninfo(url, **bounds), autocommit=True)
    except psycopg.Error as fault:
        raise InputError(f"expected a database that answers, got: {told(fault)}; look at the URL") from None


def told(fault: psycopg.Error) -> str:
    """What the database says, without a password."""
    return redacted(str(fault).strip())


class PostgresStore:
    """The chain of one instance.

    Args:
        url: of the database, as libpq reads it.
        instance: the chain's name; one service at a time has it.
        key: with which the end of the chain is signed.

    Raises:
        InputError: the database cannot be had, another service has that name, or the end of the chain is not what was
            signed.
    """

    def __init__(self, url: str, instance: str, key: bytes) -> None:
        if not _NAME.fullmatch(instance):
            raise InputError(f"expected a name of up to 128 letters, digits, '.', '_' and '-', got {instance[:200]!r}")
        self._url, self._instance, self._key = url, instance, key
        self._rows: Connection | None = None
        self._head = self._tried = self._open()

    @property
    def head(self) -> Head:
        """The last row that is known to be there."""
        return self._head

    def commit(self, added: Callable[[Head], Added]) -> None:
        """Put down what ``added`` says is to follow the head, all of it or nothing."""
        rows = self._begun()
        try:
            made = added(self._head)
            with _bounded(rows):
                if made.rows:
                    self._tried = made.head
                    self._insert(rows, made)
                rows.execute("COMMIT")
        except BaseException:
            # Whether this happened, and whether this server is still the one to write to, shows on a fresh connection.
            self.close()
            raise
        self._head = made.head

    def close(self) -> None:
        """End the session; the instance's name is free."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _begun(self) -> Connection:
        """A connection with a transaction: the one there is, or a fresh one if that has died since."""
        if self._rows is not None:
            try:
                return _begun(self._rows)
            except psycopg.Error:
                self.close()
        end = self._open()
        assert self._rows is not None
        try:
            if end not in (self._head, self._tried):
                raise InputError(f"expected the chain to end at record {self._head.number}, got {end.number}")
            self._head = end
            return _begun(self._rows)
        except BaseException:
            self.close()
            raise

    def _insert(self, rows: Connection, made: Added) -> None:
        with rows.pipeline(), rows.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO gelert.decision (instance, number, entry, previous, hash) VALUES (%s, %s, %s, %s, %s)",
                [(self._instance, *row) for row in made.rows],
            )
            cursor.executemany(
                "INSERT INTO gelert.signed (instance, kind, number, hash, signature) VALUES (%s, %s, %s, %s, %s)",
                [(self._instance, *one) for one in made.signed],
            )

    def _open(self) -> Head:
        """Connect, take the instance's name, and see where its chain ends."""
        rows = connected(self._url)
        try:
            if (encoding := rows.info.parameter_status("server_encoding")) != "UTF8":
                raise InputError(f"expected a database that takes every letter (UTF8), got one in {encoding}")
            with _bounded(rows):
                rows.execute(_SET)
                rows.execute("SELECT pg_advisory_lock(hashtextextended('gelert audit ' || %s, 0))", (self._instance,))
                end = self._end(rows)
        except psycopg.errors.LockNotAvailable:
            rows.close()
            raise InputError(
                f"expected a name of its own, but another service writes as {self._instance!r}; pass --instance"
            ) from None
        except BaseException:
            rows.close()
            raise
        self._rows = rows
        return end

    def _end(self, rows: Connection) -> Head:
        """Where to go on; a chain whose end is not what was signed is not gone on with."""
        try:
            last = rows.execute(
                "SELECT number, hash FROM gelert.decision WHERE instance = %s ORDER BY number DESC LIMIT 1",
                (self._instance,),
            ).fetchone()
            kept = rows.execute(
                "SELECT kind, number, hash, signature FROM gelert.signed"
                " WHERE instance = %s AND kind = 'head' ORDER BY number DESC LIMIT 1",
                (self._instance,),
            ).fetchone()
        except psycopg.Error as fault:
            raise InputError(
                f"expected the audit's tables and a member of gelert_writer, got: {told(fault)};"
                " as the database's owner run: gelert audit schema | psql URL"
            ) from None
        start = beginning(self._instance)
        head = sound_end(start, Head(*last) if last else None, Signed(*kept) if kept else None, self._key)
        if head is None:
            raise InputError(
                f"expected the chain of {self._instance!r} to end where it was signed with this key, and it does not;"
                " run: gelert audit verify URL, then pass the right --audit-key or another --instance"
            )
        return head


def _begun(rows: Connection) -> Connection:
    with _bounded(rows):
        rows.execute(_BEGIN)
    return rows


@contextmanager
def _bounded(rows: Connection) -> Generator[None]:
    """Cut the line if the block takes too long: the other end may never say anything again, and never close it."""
    with socket.socket(fileno=os.dup(rows.fileno())) as line:
        cutting = threading.Timer(HANGING_SECONDS, _cut, [line])
        cutting.daemon = True
        cutting.start()
        try:
            yield
        finally:
            cutting.cancel()


def _cut(line: socket.socket) -> None:
    with suppress(OSError):  # it is over already
        line.shutdown(socket.SHUT_RDWR)
