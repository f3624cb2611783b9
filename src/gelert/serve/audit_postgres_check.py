"""Reads the audit of several instances out of PostgreSQL: whether each chain is whole, its decisions as JSON Lines.

Everything that is read is as of one moment, however much the instances write meanwhile.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from gelert.core.errors import InputError
from gelert.serve.audit_chain import Row, Signed, beginning
from gelert.serve.audit_check import Checked, checked
from gelert.serve.audit_postgres import Connection, connected, told

ROWS_AT_ONCE = 2_000
"""That are held in memory, of however many there are."""


def check(url: str, key: bytes, instance: str | None = None) -> dict[str, Checked]:
    """Check every instance's chain, or that of one, by itself.

    Raises:
        InputError: there is no such database, or no such chain.
    """
    with _reading(url) as rows:
        return {
            name: checked(
                beginning(name),
                (Signed(*one) for one in _rows(rows, "signed", "kind, number, hash, signature", name)),
                (Row(*one) for one in _rows(rows, "decision", "number, entry, previous, hash", name)),
                key,
            )
            for name in _instances(rows, instance)
        }


def export(url: str, instance: str | None = None) -> Iterator[str]:
    """Each record as a line of JSON with its instance, number and hash; says nothing of whether the chains are whole.

    Raises:
        InputError: there is no such database, or no such chain.
    """
    with _reading(url) as rows:
        for name in _instances(rows, instance):
            for number, entry, found in _rows(rows, "decision", "number, entry, hash", name):
                try:
                    yield json.dumps({"instance": name, "number": number, **json.loads(entry), "hash": found})
                except ValueError as fault:
                    raise InputError(
                        f"expected an entry, got {fault} (record {number} of {name}); run: gelert audit verify URL"
                    ) from None


@contextmanager
def _reading(url: str) -> Generator[Connection]:
    with connected(url) as rows:
        try:
            rows.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield rows
        except psycopg.Error as fault:
            raise InputError(f"expected the audit's tables, got: {told(fault)}") from None


def _instances(rows: Connection, wanted: str | None) -> list[str]:
    found = rows.execute("SELECT instance FROM gelert.decision UNION SELECT instance FROM gelert.signed").fetchall()
    names = sorted(name for (name,) in found)
    if wanted is None and names:
        return names
    if wanted is None or wanted not in names:
        raise InputError(f"expected a chain{f' of {wanted!r}' if wanted else ''}, got {', '.join(names) or 'none'}")
    return [wanted]


def _rows(rows: Connection, table: str, columns: str, instance: str) -> Iterator[TupleRow]:
    """In the order of their numbers, through a cursor on the server."""
    asked = sql.SQL("SELECT {} FROM {} WHERE instance = %s ORDER BY number").format(
        sql.SQL(", ").join(map(sql.Identifier, columns.split(", "))), sql.Identifier("gelert", table)
    )
    with rows.cursor(name=f"gelert_{table}") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        yield from cursor.execute(asked, (instance,))
