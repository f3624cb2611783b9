"""The language that tools are written in: small, checked before use, compiled to closures; no text is executed.

A program is a list of statements over expressions (``gelert.worlds.expressions``)::

    {"let": "mail", "one": "inbox", "where": {"subject": "$subject"}}    exactly one row, or the call fails
    {"let": "mails", "find": "inbox", "where": {"from": "$who"}}          any number of rows
    {"let": "text", "be": {"lower": ["$query"]}}
    {"require": {"eq": ["$mail.state", "open"]}, "else": "the mail is closed"}
    {"let": "sent", "insert": "outbox", "row": {"to": "$to", "body": "$body"}}
    {"update": "$mail", "set": {"state": "closed"}}
    {"delete": "$mail"}
    {"each": "$mails", "as": "mail", "do": [{"update": "$mail", "set": {"state": "read"}}]}

A call that fails changes nothing. Every value carries its taint (``gelert.worlds.state``) through each operation; what
is decided (which row is the one, whether the call goes on) taints what comes after it in the call.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from gelert.worlds.conditions import Conditions, conditions
from gelert.worlds.expressions import CallError, Expression, Found, Run, Scope, expression, same, text_of
from gelert.worlds.state import CLEAN, NO_TAINTS, Stored, Taint, Value

LONGEST_PROGRAM, MOST_FOUND = 32, 50
"""Statements, and rows of a ``find``."""

Statement = Callable[[Run], None]


def program(source: object, scope: Scope) -> tuple[list[Statement], Scope]:
    """Check and compile statements; also gives what the names after them are.

    Raises:
        InputError: a statement is none, or names what it may not.
    """
    statements = cast("list[object]", source) if isinstance(source, list) else None
    if statements is None or len(statements) > LONGEST_PROGRAM:
        raise scope.bad(f"a list of at most {LONGEST_PROGRAM} statements", source)
    found: list[Statement] = []
    for statement in statements:
        compiled, scope = _statement(statement, scope)
        found.append(compiled)
    return found, scope


_SHAPES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "one": frozenset({"let", "one", "where"}),
        "find": frozenset({"let", "find", "where"}),
        "be": frozenset({"let", "be"}),
        "require": frozenset({"require", "else"}),
        "insert": frozenset({"let", "insert", "row"}),
        "update": frozenset({"update", "set"}),
        "delete": frozenset({"delete"}),
        "each": frozenset({"each", "as", "do"}),
    }
)
"""Kind of a statement, named by the key that only it has, and its keys."""


def kind_of(statement: object) -> str | None:
    """Which kind of statement it is, None if it is none."""
    if not isinstance(statement, dict):
        return None
    keys = frozenset(cast("dict[str, object]", statement))
    return next((kind for kind, shape in _SHAPES.items() if kind in keys and keys <= shape), None)


def _statement(source: object, scope: Scope) -> tuple[Statement, Scope]:
    kind = kind_of(source)
    if kind is None:
        raise scope.bad(f"a statement ({', '.join(_SHAPES)})", source)
    given = cast("dict[str, object]", source)
    match kind:
        case "be":
            after = scope.bound(given.get("let"), "value")
            return _be(cast("str", given["let"]), expression(given["be"], scope)), after
        case "require":
            return _require(expression(given["require"], scope), given.get("else"), scope), scope
        case "one" | "find":
            return _select(kind, given, scope)
        case "insert":
            return _insert(given, scope)
        case "update":
            return _update(given, scope), scope
        case "delete":
            name = _row_name(given["delete"], scope)
            return lambda run: _write(run, name, None), scope
        case _:
            return _each(given, scope), scope


def _be(name: str, value: Expression) -> Statement:
    def do(run: Run) -> None:
        run.names[name] = value(run)

    return do


def _require(test: Expression, message: object, scope: Scope) -> Statement:
    if not isinstance(message, str):
        raise scope.bad('"else" with what the agent is told', message)

    def do(run: Run) -> None:
        passed, taint = test(run)
        if taint:
            run.taint |= taint
        if not passed:
            raise CallError(message)

    return do


def _select(kind: str, given: dict[str, object], scope: Scope) -> tuple[Statement, Scope]:
    table = given[kind]
    scope.fields(table)
    assert isinstance(table, str)
    tests = conditions(given.get("where", {}), table, scope)
    after = scope.bound(given.get("let"), "row" if kind == "one" else "list", table)
    name = cast("str", given["let"])
    if kind == "find":
        return _find(name, table, tests), after
    if not tests:
        raise scope.bad("something that tells one row from the others", given)
    keyed = [at for at, (field, test, _) in enumerate(tests) if field == "id" and test is same]
    if not keyed:
        return _one(name, table, tests), after
    others = [one for at, one in enumerate(tests) if at != keyed[0]]
    return _by_key(name, table, tests[keyed[0]][2], others), after


NOT_ONE = "no such record, or more than one"
"""What an agent is told when a target is not exactly one: nothing that would let it guess."""


def _by_key(name: str, table: str, key: Expression, others: Conditions) -> Statement:
    def do(run: Run) -> None:
        value, taint = key(run)
        text = text_of(value).strip()
        row = run.writes[table, text] if (table, text) in run.writes else run.state.get(table, text)
        run.taint |= taint | run.presence(table)
        if row is None:
            raise CallError(NOT_ONE)
        for field, test, what in others:
            wanted, own = what(run)
            run.taint |= own | row[1].get(field, CLEAN)
            if not test(text if field == "id" else row[0].get(field), wanted):
                raise CallError(NOT_ONE)
        run.names[name] = Found(table, text, row), run.taint

    return do


def _matching(run: Run, table: str, tests: Conditions) -> tuple[list[Found], Taint]:
    """The rows that pass, and the taint of the choice: of what was asked, and of every value it was held against."""
    outside = [run.taint, run.presence(table)]
    asked: list[tuple[str, Callable[[object, object], bool], object]] = []
    for field, test, what in tests:
        value, own = what(run)
        asked.append((field, test, value))
        outside.append(own)
    found: list[Found] = []
    # Written out, for this is where a call spends its time.
    for key, row in _rows(run, table):
        values, taints = row
        for field, test, value in asked:
            if taints and field in taints:
                outside.append(taints[field])
            if not test(key if field == "id" else values.get(field), value):
                break
        else:
            found.append(Found(table, key, row))
    return found, CLEAN.union(*outside)


def _rows(run: Run, table: str) -> Collection[tuple[str, Stored]]:
    """What the call sees of a table: the state, and what it has itself written."""
    own = {key: row for (name, key), row in run.writes.items() if name == table} if run.writes else None
    if not own:
        return run.state.rows(table)
    rows = {**dict(run.state.rows(table)), **own}
    return [(key, row) for key, row in rows.items() if row is not None]


def _one(name: str, table: str, tests: Conditions) -> Statement:
    def do(run: Run) -> None:
        found, taint = _matching(run, table, tests)
        run.taint = taint
        if len(found) != 1:
            raise CallError(NOT_ONE)
        run.names[name] = found[0], taint

    return do


def _find(name: str, table: str, tests: Conditions) -> Statement:
    def do(run: Run) -> None:
        found, taint = _matching(run, table, tests)
        run.names[name] = found[:MOST_FOUND], taint

    return do


def _fields(source: object, table: str, scope: Scope) -> list[tuple[str, Expression]]:
    if not isinstance(source, dict) or not source:
        raise scope.bad("fields and what to put in them", source)  # pyright: ignore[reportUnknownArgumentType]
    for field in cast("dict[str, object]", source):
        if field not in scope.fields(table):
            raise scope.bad(f"a field of {table} ({', '.join(sorted(scope.fields(table)))})", field)
    return [(field, expression(value, scope)) for field, value in cast("dict[str, object]", source).items()]


def _evaluated(
    run: Run, fields: Sequence[tuple[str, Expression]], taint: Taint
) -> tuple[dict[str, Value], dict[str, Taint]]:
    """Values of fields and their taints, of which ``taint`` is part."""
    values: dict[str, Value] = {}
    taints: dict[str, Taint] = {}
    for field, expressed in fields:
        value, own = expressed(run)
        values[field] = cast("Value", value)
        whole = own | taint if taint else own
        if whole:
            taints[field] = whole
    return values, taints


def _insert(given: dict[str, object], scope: Scope) -> tuple[Statement, Scope]:
    table = given["insert"]
    scope.fields(table)
    assert isinstance(table, str)
    fields = _fields(given.get("row"), table, scope)
    after = scope.bound(given["let"], "row", table) if "let" in given else scope
    name = cast("str", given.get("let", ""))

    def do(run: Run) -> None:
        values, taints = _evaluated(run, fields, run.taint)
        ahead = sum(key[0] == table and run.state.get(*key) is None for key in run.writes)
        number = int(run.state.fresh(table)[1:]) + ahead
        row: Stored = values, taints or NO_TAINTS
        chosen = run.taint | run.presence(table)
        run.writes[table, f"n{number}"] = row
        run.touched[table, f"n{number}"] = run.taint
        if name:
            run.names[name] = Found(table, f"n{number}", row), chosen

    return do, after


def _row_name(source: object, scope: Scope) -> str:
    name = source[1:] if isinstance(source, str) and source.startswith("$") else ""
    if name not in scope.rows:
        raise scope.bad("a row that was found", source)
    return name


def _update(given: dict[str, object], scope: Scope) -> Statement:
    name = _row_name(given["update"], scope)
    fields = _fields(given.get("set"), scope.rows[name], scope)

    def do(run: Run) -> None:
        row, taints = cast("Found", run.names[name][0]).row
        values, own = _evaluated(run, fields, run.taint | run.names[name][1])
        kept = {field: taint for field, taint in taints.items() if field not in values}
        _write(run, name, ({**row, **values}, {**kept, **own} or NO_TAINTS))

    return do


def _write(run: Run, name: str, row: Stored | None) -> None:
    found, chosen = cast("tuple[Found, Taint]", run.names[name])
    place = found.table, found.key
    run.writes[place] = row
    run.touched[place] = run.touched.get(place, CLEAN) | run.taint | chosen
    if row is None:
        run.removed.add(place)
    else:
        run.names[name] = Found(found.table, found.key, row), chosen


def _each(given: dict[str, object], scope: Scope) -> Statement:
    source, name = given["each"], given.get("as")
    rows = source[1:] if isinstance(source, str) and source.startswith("$") else ""
    if rows not in scope.lists:
        raise scope.bad("rows that were found", source)
    inner = scope.bound(name, "row", scope.lists[rows])
    if any(kind_of(statement) in ("each", "find", "one") for statement in cast("list[object]", given.get("do") or [])):
        raise scope.bad("no search and no loop within a loop", given)
    body, _ = program(given.get("do"), inner)
    assert isinstance(name, str)

    def do(run: Run) -> None:
        found, chosen = cast("tuple[list[Found], Taint]", run.names[rows])
        run.taint |= chosen
        for one in found:
            run.names[name] = one, chosen
            for statement in body:
                statement(run)
        run.names.pop(name, None)

    return do


Gives = Callable[[Run], tuple[dict[str, object], Taint]]


def gives(source: object, scope: Scope) -> Gives:
    """Check and compile what a tool answers: names and expressions, ``{"rows": "$mails", "fields": [...]}`` for rows.

    Raises:
        InputError: it names what it may not.
    """
    if not isinstance(source, dict):
        raise scope.bad('"gives" with names and expressions', source)
    parts = [(name, _given(value, scope)) for name, value in cast("dict[str, object]", source).items()]

    def do(run: Run) -> tuple[dict[str, object], Taint]:
        taint = run.taint
        result: dict[str, object] = {}
        for name, part in parts:
            result[name], own = part(run)
            if own:
                taint |= own
        return result, taint

    return do


def _given(source: object, scope: Scope) -> Expression:
    shape = cast("dict[str, object]", source) if isinstance(source, dict) else {}
    if set(shape) != {"rows", "fields"}:
        return expression(source, scope)
    path, fields = shape["rows"], cast("list[str]", shape["fields"])
    name = path[1:] if isinstance(path, str) and path.startswith("$") else ""
    table = scope.lists.get(name) or scope.rows.get(name)
    if table is None or not isinstance(fields, list) or not set(fields) <= scope.tables[table] | {"id"}:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise scope.bad("rows that were found, and fields of theirs", source)

    wanted = frozenset(fields)

    def do(run: Run) -> tuple[object, Taint]:
        value, taint = run.names[name]
        found = cast("list[Found]", value) if isinstance(value, list) else [cast("Found", value)]
        shown: list[dict[str, object]] = []
        outside: list[Taint] = []
        for one in found:
            row, taints = one.row
            shown.append({field: one.key if field == "id" else row.get(field) for field in fields})
            if taints:
                outside.extend(own for field, own in taints.items() if field in wanted)
        return (shown if isinstance(value, list) else shown[0]), taint.union(*outside) if outside else taint

    return do
