"""A world: tables and tools, read from data and checked before anything runs.

A world is a JSON object::

    {"world": "mail", "domain": "office", "setting": "general", "about": "...",
     "tables": {"inbox": {"fields": {"sender": "text", "body": "outside text", "paid": "number", "read": "flag"},
                          "rows": {"m1": {"sender": "...", "body": "...", "paid": 3, "read": false}}}},
     "tools": [{"name": "read_mail", "about": "...", "kind": "lookup",
                "arguments": {"mail": {"type": "string", "about": "..."}},
                "program": [{"let": "mail_row", "one": "inbox", "where": {"id": "$mail"}}],
                "gives": {"mail": {"rows": "$mail_row", "fields": ["sender", "body"]}}}]}

A ``lookup`` writes nothing. An ``action`` finds its targets by what it is told, exactly one or it fails, and tells
nothing that it was not told. A ``bulk`` action may search and loop. A ``shell`` stands for other tools
(``gelert.worlds.shell``), which may be ``"hidden": true``: not offered by themselves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

from gelert.core.errors import InputError
from gelert.core.trajectory import Setting, ToolSpec
from gelert.worlds import shell
from gelert.worlds.effects import Gives, Statement, gives, kind_of, program
from gelert.worlds.expressions import CallError, Fields, Run, Scope
from gelert.worlds.memo import Memo
from gelert.worlds.shell import Command, Outcome, failed
from gelert.worlds.state import CLEAN, Base, Row, State, Taint, Value

Kind = Literal["lookup", "action", "bulk", "shell"]
Argument = Literal["string", "integer", "number", "boolean"]

LINE = "command"
"""The one argument of a shell."""

LARGEST_FILE = 4_000_000
LONGEST_ARGUMENT = 20_000
"""Characters of a text that an agent passes."""

TYPES: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {"text": str, "number": (int, float), "flag": bool, "outside text": str}
)
"""Of a field; ``outside`` is what comes from strangers."""

OUTSIDE = "outside text"

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)
}  # fmt: skip
"""What an argument's value may be."""


@dataclass(frozen=True)
class Tool:
    """What an agent can call."""

    name: str
    about: str
    kind: Kind
    arguments: Mapping[str, "Parameter"]
    statements: tuple[Statement, ...]
    answer: Gives
    reads: frozenset[str]
    """Tables."""
    writes: frozenset[str]
    commands: tuple[Command, ...] = ()
    """Of a shell; it has no statements of its own."""
    hidden: bool = False
    """Not offered to agents: a shell's command only."""

    @cached_property
    def spec(self) -> ToolSpec:
        """As models are told of it."""
        schema = {
            "type": "object",
            "properties": {name: one.schema for name, one in self.arguments.items()},
            "required": [name for name, one in self.arguments.items() if one.required],
            "additionalProperties": False,
        }
        return ToolSpec(self.name, self.about, json.dumps(schema))

    def run(self, state: State, arguments: Mapping[str, Value], taints: Mapping[str, Taint]) -> Outcome:
        """Do the call: all of it, or nothing of it.

        Args:
            state: changed where the call succeeds.
            arguments: as the agent passed them; checked here.
            taints: of arguments; those that are not there are clean.
        """
        try:
            names = self._names(arguments, taints)
        except CallError as fault:
            return failed(str(fault))
        if self.commands:
            line, taint = names[LINE]
            return shell.run(self.commands, state, str(line), taint)
        run = Run(state, names)
        try:
            for statement in self.statements:
                statement(run)
            result, taint = self.answer(run)
        except CallError as fault:
            return failed(str(fault), run.taint)
        run.commit()
        return Outcome(ok=True, result=result, taint=taint, touched=run.touched)

    def _names(self, arguments: Mapping[str, Value], taints: Mapping[str, Taint]) -> dict[str, tuple[object, Taint]]:
        known = self.arguments
        for name in arguments:
            if name not in known:
                raise CallError(f"expected the arguments {', '.join(known) or '(none)'}, got {name[:80]!r} too")
        names: dict[str, tuple[object, Taint]] = {}
        for name, parameter in known.items():
            value = arguments.get(name)
            if value is None:
                if parameter.required:
                    raise CallError(f"expected the argument {name!r}, got none")
            else:
                parameter.check(name, value)
            names[name] = value, taints.get(name, CLEAN)
        return names


@dataclass(frozen=True)
class Parameter:
    """One argument of a tool."""

    type: Argument
    about: str
    required: bool
    choices: tuple[str, ...]

    @cached_property
    def schema(self) -> dict[str, object]:
        """JSON Schema."""
        found: dict[str, object] = {"type": self.type, "description": self.about}
        return {**found, "enum": list(self.choices)} if self.choices else found

    def check(self, name: str, value: object) -> None:
        """Raise CallError where the value is not what is expected."""
        if not isinstance(value, _KINDS[self.type]) or (isinstance(value, bool) and self.type != "boolean"):
            raise CallError(f"expected {name!r} to be of type {self.type}, got {type(value).__name__}")
        if isinstance(value, str) and len(value) > LONGEST_ARGUMENT:
            raise CallError(f"expected {name!r} to have at most {LONGEST_ARGUMENT} characters, got {len(value)}")
        if self.choices and value not in self.choices:
            raise CallError(f"expected {name!r} to be one of {', '.join(self.choices)}")


@dataclass(frozen=True)
class World:
    """Checked, compiled, shared by all its episodes."""

    name: str
    domain: str
    setting: Setting
    about: str
    base: Base
    fields: Fields
    untrusted: frozenset[tuple[str, str]]
    tools: Mapping[str, Tool]
    source: Mapping[str, object]
    """As it was read; what is not of the world itself (families of tasks) is read by others."""
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)
    """Of lookups in tables that are as in the base."""

    def state(self) -> State:
        """A fresh one."""
        return State(self.base)


def load(path: Path) -> World:
    """Read a world from a file.

    Raises:
        InputError: it is not one; says where.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"expected a world of at most {LARGEST_FILE} bytes, got {path.stat().st_size} ({path})")
        source = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        raise InputError(f"expected a world as a JSON object, got: {fault} ({path})") from fault
    return world(source, str(path))


def world(source: object, where: str) -> World:
    """Check and compile what was read.

    Args:
        source: the JSON object.
        where: for messages.

    Raises:
        InputError: it is not a world; says where.
    """
    top = _object(source, "a world", where)
    name = _string(top, "world", where)
    where = f"world {name}, {where}"
    tables = {one: _Table(one, told, where) for one, told in _object(top.get("tables"), "tables", where).items()}
    fields = {one: frozenset(table.fields) for one, table in tables.items()}
    untrusted = frozenset(
        (one, field) for one, table in tables.items() for field, kind in table.fields.items() if kind == OUTSIDE
    )
    tools: dict[str, Tool] = {}
    for told in _list(top.get("tools"), "tools", where):
        tool = _tool(told, fields, tools, where)
        if tool.name in tools:
            raise InputError(f"expected tools of different names, got two called {tool.name} ({where})")
        tools[tool.name] = tool
    setting = _string(top, "setting", where)
    if setting not in set(Setting):
        raise InputError(f"expected a setting of {', '.join(Setting)}, got {setting!r} ({where})")
    return World(
        name,
        _string(top, "domain", where),
        Setting(setting),
        _string(top, "about", where),
        Base.of({one: table.rows for one, table in tables.items()}, untrusted),
        MappingProxyType(fields),
        untrusted,
        MappingProxyType(tools),
        MappingProxyType(top),
    )


class _Table:
    def __init__(self, name: str, source: object, where: str) -> None:
        where = f"table {name}, {where}"
        told = _object(source, "a table", where)
        self.fields = {
            field: _kind(kind, where) for field, kind in _object(told.get("fields"), "fields", where).items()
        }
        if "id" in self.fields or not all(field.isidentifier() for field in self.fields):
            raise InputError(f"expected fields that are names other than id, got {', '.join(self.fields)} ({where})")
        self.rows = {
            key: row_of(self.fields, row, f"row {key}, {where}")
            for key, row in _object(told.get("rows"), "rows", where).items()
        }


def row_of(fields: Mapping[str, str], source: object, where: str) -> Row:
    """Check a row against the kinds of its fields; what is missing is empty.

    Raises:
        InputError: a field is not known, or a value of another kind.
    """
    told = _object(source, "a row", where)
    for name, value in told.items():
        kind = TYPES.get(fields.get(name, ""))
        if kind is None or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(
                f"expected {name!r} to be {fields.get(name, 'a field of the table')}, got {value!r} ({where})"
            )
    empty: dict[str, Value] = {"number": 0, "flag": False}
    return {name: cast("Value", told.get(name, empty.get(kind, ""))) for name, kind in fields.items()}


def _tool(source: object, tables: Fields, others: Mapping[str, Tool], where: str) -> Tool:
    told = _object(source, "a tool", where)
    name = _string(told, "name", where)
    where = f"tool {name}, {where}"
    kind = _string(told, "kind", where)
    if kind not in get_args(Kind) or not name.isidentifier():
        raise InputError(
            f"expected a name and a kind of {', '.join(get_args(Kind))}, got {name!r} and {kind!r} ({where})"
        )
    if kind == "shell":
        return _shell(told, name, others, where)
    arguments = {
        one: _parameter(given, f"argument {one}, {where}")
        for one, given in _object(told.get("arguments", {}), "arguments", where).items()
    }
    scope = Scope(tables, frozenset(arguments), {}, {}, where)
    source_program = _list(told.get("program"), "program", where)
    statements, after = program(source_program, scope)
    _keeps_to_its_kind(cast("Kind", kind), source_program, told.get("gives"), after)
    reads, writes = _touches(source_program, after)
    return Tool(
        name,
        _string(told, "about", where),
        cast("Kind", kind),
        MappingProxyType(arguments),
        tuple(statements),
        gives(told.get("gives"), after),
        reads,
        writes,
        hidden=told.get("hidden", False) is True,
    )


def _shell(told: dict[str, object], name: str, others: Mapping[str, Tool], where: str) -> Tool:
    commands: list[Command] = []
    for source in _list(told.get("commands"), "commands", where):
        given = _object(source, "a command", where)
        does = _string(given, "does", where)
        words = tuple(_string(given, "line", where).split())
        if does not in others or others[does].commands:
            raise InputError(f"expected a command that does one of the tools before it, got {does!r} ({where})")
        holes = {word.strip("{*}") for word in words if word.startswith("{")}
        needed = {one for one, parameter in others[does].arguments.items() if parameter.required}
        if not needed <= holes <= set(others[does].arguments):
            raise InputError(f"expected the arguments of {does} in braces, got {' '.join(words)!r} ({where})")
        commands.append(Command(words, others[does]))
    if not commands:
        raise InputError(f"expected at least one command, got none ({where})")
    line = {LINE: Parameter("string", "the line", required=True, choices=())}
    reads, writes = (
        frozenset[str]().union(*(getattr(one.does, side) for one in commands)) for side in ("reads", "writes")
    )
    return Tool(
        name,
        _string(told, "about", where),
        "shell",
        MappingProxyType(line),
        (),
        _nothing,
        reads,
        writes,
        tuple(commands),
    )


def _nothing(_run: Run) -> tuple[dict[str, object], Taint]:
    return {}, CLEAN


def _keeps_to_its_kind(kind: Kind, source: list[object], answer: object, scope: Scope) -> None:
    """A lookup does not write; an action does not search, and tells no field of what it found."""
    kinds = [kind_of(statement) for statement in source]
    if kind == "lookup" and any(one in ("insert", "update", "delete", "each") for one in kinds):
        raise scope.bad("a lookup that writes nothing", source)
    if kind != "lookup" and not any(one in ("insert", "update", "delete", "each") for one in kinds):
        raise scope.bad("an action that writes something", source)
    if kind != "action":
        return
    if any(one in ("find", "each") for one in kinds):
        raise scope.bad("an action that does not search", source)
    inserted = {cast("dict[str, object]", one).get("let") for one in source if kind_of(one) == "insert"}
    for text in _strings(answer):
        row, _, field = text[1:].partition(".")
        if text.startswith("$") and row in scope.rows and field != "id" and row not in inserted:
            raise scope.bad("an action that tells nothing it was not told", text)


def _strings(source: object) -> list[str]:
    if isinstance(source, str):
        return [source]
    if isinstance(source, dict):
        return [text for part in cast("dict[str, object]", source).values() for text in _strings(part)]
    return (
        [text for part in cast("list[object]", source) for text in _strings(part)] if isinstance(source, list) else []
    )


def _touches(source: list[object], scope: Scope) -> tuple[frozenset[str], frozenset[str]]:
    reads: set[str] = set()
    writes: set[str] = set()
    inner = {
        cast("dict[str, str]", one)["as"]: cast("dict[str, str]", one)["each"]
        for one in source
        if kind_of(one) == "each"
    }
    rows = {**scope.rows, **{name: scope.lists[path[1:]] for name, path in inner.items()}}

    def walk(statements: list[object]) -> None:
        for statement in statements:
            given = cast("dict[str, object]", statement)
            match kind_of(statement):
                case "one" | "find" as kind:
                    reads.add(cast("str", given[kind]))
                case "insert":
                    writes.add(cast("str", given["insert"]))
                case "update" | "delete" as kind:
                    writes.add(rows[cast("str", given[kind])[1:]])
                case "each":
                    walk(cast("list[object]", given["do"]))
                case _:
                    pass

    walk(source)
    return frozenset(reads), frozenset(writes)


def _parameter(source: object, where: str) -> Parameter:
    told = _object(source, "an argument", where)
    kind = _string(told, "type", where)
    choices = told.get("choices", [])
    if kind not in get_args(Argument) or not isinstance(choices, list):
        raise InputError(f"expected a type of {', '.join(get_args(Argument))}, got {kind!r} ({where})")
    return Parameter(
        cast("Argument", kind),
        _string(told, "about", where),
        told.get("required", True) is not False,
        tuple(str(choice) for choice in cast("list[object]", choices)),
    )


def _kind(kind: object, where: str) -> str:
    if not isinstance(kind, str) or kind not in TYPES:
        raise InputError(f"expected a field to be {', '.join(TYPES)}, got {kind!r} ({where})")
    return kind


def _object(source: object, what: str, where: str) -> dict[str, object]:
    if not isinstance(source, dict):
        raise InputError(f"expected {what} as a JSON object, got {type(source).__name__} ({where})")
    return cast("dict[str, object]", source)


def _list(source: object, what: str, where: str) -> list[object]:
    if not isinstance(source, list):
        raise InputError(f"expected {what} as a JSON array, got {type(source).__name__} ({where})")
    return cast("list[object]", source)


def _string(told: dict[str, object], key: str, where: str) -> str:
    value = told.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"expected {key!r} to be a text, got {value!r} ({where})")
    return value
