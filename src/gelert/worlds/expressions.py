"""Values of the tool language: what a program may name, and operations on it, checked and compiled to closures.

Text that begins with ``$`` names a value (``$to`` an argument, ``$mail.body`` a field of a row that was found; ``$$``
is a dollar sign); an object with one key is an operation (``{"concat": ["Re: ", "$mail.subject"]}``, or in short
``{"text": "Re: {mail.subject}"}``); all else is itself.
Every value carries its taint through each operation.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeGuard, cast

from gelert.core.errors import InputError
from gelert.worlds.state import CLEAN, State, Stored, Taint, Value

DEEPEST_EXPRESSION, LONGEST_TEXT = 12, 100_000
"""Operations within each other, characters of a text."""

REMEMBERED = 1000
"""Characters of a text up to which it is remembered without its case: tables are searched again and again."""

Fields = Mapping[str, frozenset[str]]
"""Fields of each table."""


@dataclass(slots=True)
class Found:
    """A row that a statement has found."""

    table: str
    key: str
    row: Stored


class CallError(Exception):
    """A call that fails, and what the agent is told of it."""


class Run:
    """One call while it runs."""

    __slots__ = ("names", "removed", "state", "taint", "touched", "writes")

    def __init__(self, state: State, names: dict[str, tuple[object, Taint]]) -> None:
        self.state, self.names = state, names
        self.taint = CLEAN
        """Of what has been decided so far."""
        self.writes: dict[tuple[str, str], Stored | None] = {}
        """Not yet in the state."""
        self.touched: dict[tuple[str, str], Taint] = {}
        """What made each of them happen."""
        self.removed: set[tuple[str, str]] = set()
        """Rows that this call has deleted, though it may have written them again."""

    def presence(self, table: str) -> Taint:
        """What has decided which rows the table has, in this call too."""
        taint = self.state.presence(table)
        for place, own in self.touched.items():
            if own and place[0] == table:
                taint |= own
        return taint

    def commit(self) -> None:
        """Put into the state what the call has written."""
        for (table, key), row in self.writes.items():
            taint = self.touched[table, key]
            if taint and ((table, key) in self.removed or self.state.get(table, key) is None):
                self.state.decided(table, taint)
            if row is None:
                self.state.drop(table, key)
            else:
                self.state.put(table, key, row)


Expression = Callable[[Run], tuple[object, Taint]]


@dataclass(frozen=True)
class Scope:
    """What a program may name while it is being checked."""

    tables: Fields
    values: frozenset[str]
    rows: Mapping[str, str]
    """Name of a found row, and its table."""
    lists: Mapping[str, str]
    where: str
    """For messages: which tool of which world."""

    def bad(self, expected: str, got: object) -> InputError:
        """An error that says where."""
        return InputError(f"expected {expected}, got {got!r} ({self.where})")

    def fields(self, table: object) -> frozenset[str]:
        """Of a table that must be there."""
        if not isinstance(table, str) or table not in self.tables:
            raise self.bad(f"one of the tables {', '.join(sorted(self.tables))}", table)
        return self.tables[table]

    def bound(self, name: object, kind: str, table: str = "") -> "Scope":
        """The scope after a ``let``."""
        if not isinstance(name, str) or not name.isidentifier():
            raise self.bad("a name", name)
        if name in self.values or name in self.rows or name in self.lists:
            raise self.bad("a name that is not taken", name)
        values, rows, lists = self.values, dict(self.rows), dict(self.lists)
        if kind == "value":
            values |= {name}
        elif kind == "row":
            rows[name] = table
        else:
            lists[name] = table
        return Scope(self.tables, values, rows, lists, self.where)


def text_of(value: object) -> str:
    """A value as a text."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    return str(value)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is one; a flag is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    if not is_number(value):
        raise CallError(f"expected a number, got {text_of(value)!r}")
    return value


def same(one: object, other: object) -> bool:
    """Whether two values are the same to a tool: texts whatever their case and outer blanks, numbers by value."""
    if isinstance(one, str) and isinstance(other, str):
        if one == other:
            return True
        if len(one) > REMEMBERED or len(other) > REMEMBERED:
            return one.strip().casefold() == other.strip().casefold()
        return _stripped(one) == _stripped(other)
    return (type(one) in (int, float) and type(other) in (int, float) and one == other) or one is other


def holds(text: object, part: object) -> bool:
    """Whether ``part`` is in ``text``, whatever the case."""
    whole, wanted = text_of(text), text_of(part)
    return wanted.strip().casefold() in (whole.casefold() if len(whole) > REMEMBERED else _folded(whole))


@lru_cache(8192)
def _stripped(text: str) -> str:
    return text.strip().casefold()


@lru_cache(8192)
def _folded(text: str) -> str:
    return text.casefold()


def _slice(text: object, start: object, end: object) -> str:
    return text_of(text)[int(_number(start)) : int(_number(end))]


PARTIAL = frozenset({"slice", "lt", "le", "add", "sub", "mul"})
"""Operations that fail on operands of the wrong kind: that the call goes on says something of these."""


def _concat(*parts: object) -> str:
    return "".join(map(text_of, parts))


def _replace(text: object, old: object, new: object) -> str:
    return text_of(text).replace(text_of(old), text_of(new)) if text_of(old) else text_of(text)


OPERATIONS: Mapping[str, tuple[int | None, Callable[..., object]]] = MappingProxyType(
    {
        "concat": (None, _concat),
        "lower": (1, lambda text: text_of(text).lower()),
        "upper": (1, lambda text: text_of(text).upper()),
        "reverse": (1, lambda text: text_of(text)[::-1]),
        "replace": (3, _replace),
        "slice": (3, _slice),
        "length": (1, lambda text: len(text_of(text))),
        "contains": (2, holds),
        "eq": (2, same),
        "ne": (2, lambda a, b: not same(a, b)),
        "lt": (2, lambda a, b: _number(a) < _number(b)),
        "le": (2, lambda a, b: _number(a) <= _number(b)),
        "and": (None, lambda *parts: all(parts)),
        "or": (None, lambda *parts: any(parts)),
        "not": (1, lambda part: not part),
        "add": (2, lambda a, b: _number(a) + _number(b)),
        "sub": (2, lambda a, b: _number(a) - _number(b)),
        "mul": (2, lambda a, b: _number(a) * _number(b)),
        "if": (3, lambda test, then, otherwise: then if test else otherwise),
    }
)
"""Name, number of operands (None for any), and what it does. All are evaluated: what was not chosen taints too."""


def expression(source: object, scope: Scope, depth: int = 0) -> Expression:
    """Check and compile.

    Raises:
        InputError: it names or does what it may not.
    """
    if depth > DEEPEST_EXPRESSION:
        raise scope.bad(f"at most {DEEPEST_EXPRESSION} operations within each other", "more")
    if isinstance(source, str) and source.startswith("$"):
        return _constant(source[1:]) if source.startswith("$$") else _name(source[1:], scope)
    if source is None or isinstance(source, str | int | float):
        return _constant(source)
    if not isinstance(source, dict) or len(source) != 1:  # pyright: ignore[reportUnknownArgumentType]
        raise scope.bad("a value, a name with $, or an object with one operation", source)
    ((name, operands),) = cast("dict[str, object]", source).items()
    if name == "text":
        return template(operands, scope)
    if name in ("count", "join"):
        return _of_list(name, operands, scope)
    if name not in OPERATIONS or not isinstance(operands, list):
        raise scope.bad(f"one of the operations {', '.join(OPERATIONS)} with a list of operands", source)
    arity, work = OPERATIONS[name]
    parts = [expression(part, scope, depth + 1) for part in cast("list[object]", operands)]
    if not parts or (arity is not None and len(parts) != arity):
        raise scope.bad(f"{arity or 'some'} operands of {name}", source)
    return _operation(parts, work, partial=name in PARTIAL)


_HOLE = re.compile(r"\{([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?)\}")


def template(source: object, scope: Scope) -> Expression:
    """A text with names in braces: ``"Dear {mail.sender}, ..."``; a brace that holds no name is itself.

    Raises:
        InputError: it names what is not known here.
    """
    if not isinstance(source, str):
        raise scope.bad("a text", source)
    parts = _HOLE.split(source)
    compiled = [_name(part, scope) if at % 2 else _constant(part) for at, part in enumerate(parts) if at % 2 or part]
    return _operation(compiled, _concat, partial=False)


def _constant(value: Value) -> Expression:
    known = value, CLEAN
    return lambda _run: known


def _name(path: str, scope: Scope) -> Expression:
    name, _, field = path.partition(".")
    if not field:
        if name not in scope.values:
            raise scope.bad(f"a value that is known here ({', '.join(sorted(scope.values)) or 'none'})", f"${path}")
        return lambda run: run.names[name]
    if name not in scope.rows or (field != "id" and field not in scope.tables[scope.rows[name]]):
        raise scope.bad("a field of a row that is known here", f"${path}")
    if field == "id":
        return lambda run: (cast("Found", run.names[name][0]).key, run.names[name][1])

    def get(run: Run) -> tuple[object, Taint]:
        found, chosen = run.names[name]
        row, taints = cast("Found", found).row
        taint = taints.get(field, CLEAN) if taints else CLEAN
        return row.get(field), taint | chosen if chosen else taint

    return get


def _operation(parts: Sequence[Expression], work: Callable[..., object], *, partial: bool) -> Expression:
    def do(run: Run) -> tuple[object, Taint]:
        taint = CLEAN
        operands: list[object] = []
        for part in parts:
            value, own = part(run)
            operands.append(value)
            if own:
                taint |= own
        if partial and taint:
            run.taint |= taint
        value = work(*operands)
        return value[:LONGEST_TEXT] if isinstance(value, str) else value, taint

    return do


def _of_list(name: str, operands: object, scope: Scope) -> Expression:
    """``{"count": ["$mails"]}`` and ``{"join": ["$mails.subject", ", "]}``."""
    source = cast("list[object]", operands) if isinstance(operands, list) else []
    path = source[0] if source else None
    variable, _, field = path[1:].partition(".") if isinstance(path, str) and path.startswith("$") else ("", "", "")
    if variable not in scope.lists or len(source) != (1 if name == "count" else 2):
        raise scope.bad("rows that were found", operands)
    if name == "count":
        return lambda run: (len(cast("list[Found]", run.names[variable][0])), run.names[variable][1])
    if field != "id" and field not in scope.tables[scope.lists[variable]]:
        raise scope.bad(f"a field of {scope.lists[variable]}", path)
    between = expression(source[1], scope)

    def join(run: Run) -> tuple[object, Taint]:
        rows, chosen = run.names[variable]
        text, taint = between(run)
        found = cast("list[Found]", rows)
        for one in found:
            taint |= one.row[1].get(field, CLEAN)
        values = [one.key if field == "id" else text_of(one.row[0].get(field)) for one in found]
        return text_of(text).join(values)[:LONGEST_TEXT], taint | chosen

    return join
