"""What must be true of a finished episode: predicates on its state, its calls and its answer, checked and compiled.

::

    {"exists": "outbox", "where": {"to": "$mail.sender", "body": {"has": "$amount"}}}
    {"none": "outbox"}                          {"count": "outbox", "is": 2}
    {"called": "send_mail", "where": {"to": "$who"}}      a call that succeeded
    {"said": "$invoice.amount"}                 the answer holds it, whatever the case
    {"all": [...]}   {"any": [...]}   {"not": ...}
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

from gelert.worlds.conditions import Conditions, conditions
from gelert.worlds.expressions import Expression, Found, Run, Scope, expression, holds, same
from gelert.worlds.state import Row, State, Taint, Value

Names = Mapping[str, tuple[object, Taint]]
"""What the names of a scope stand for in one task."""


class Done(NamedTuple):
    """A call that succeeded."""

    tool: str
    arguments: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a check is asked of: an episode, finished or as far as it has come."""

    state: State
    calls: Sequence[Done]
    answer: str


Check = Callable[[Ended, Names], bool]


def check(source: object, scope: Scope, tools: Mapping[str, frozenset[str]]) -> Check:
    """Check and compile.

    Args:
        source: the predicate.
        scope: what it may name.
        tools: arguments of each tool.

    Raises:
        InputError: it is none, or names what is not there.
    """
    given = cast("dict[str, object]", source) if isinstance(source, dict) else {}
    keys = set(given)
    match [key for key in ("all", "any", "not", "said", "called", "exists", "none", "count") if key in keys]:
        case ["all" | "any" as how] if len(keys) == 1 and isinstance(given[how], list) and given[how]:
            parts = [check(part, scope, tools) for part in cast("list[object]", given[how])]
            return _all(parts) if how == "all" else _any(parts)
        case ["not"] if len(keys) == 1:
            inner = check(given["not"], scope, tools)
            return lambda ended, names: not inner(ended, names)
        case ["said"] if len(keys) == 1:
            return _said(expression(given["said"], scope))
        case ["called"] if keys <= {"called", "where"}:
            return _called(given, scope, tools)
        case ["exists" | "none" | "count" as how] if keys <= {how, "where", "is"} and ("is" in keys) == (
            how == "count"
        ):
            return _counted(how, given, scope)
        case _:
            raise scope.bad("a check (exists, none, count, called, said, all, any, not)", source)


def matching(state: State, table: str, wanted: Conditions, names: Names) -> list[Found]:
    """The rows of a table that meet conditions."""
    asked = evaluated(wanted, state, names)
    return [Found(table, key, row) for key, row in state.rows(table) if meets(key, row[0], asked)]


Asked = list[tuple[str, Callable[[object, object], bool], object]]


def evaluated(wanted: Conditions, state: State, names: Names) -> Asked:
    """Conditions with what is wanted worked out."""
    run = Run(state, dict(names))
    return [(field, test, of(run)[0]) for field, test, of in wanted]


def meets(key: str, row: Row, asked: Asked) -> bool:
    """Whether a row meets conditions."""
    return all(test(key if field == "id" else row.get(field), value) for field, test, value in asked)


def value_of(what: Expression, state: State, names: Names) -> Value:
    """What an expression is in a task."""
    return cast("Value", what(Run(state, dict(names)))[0])


def _all(parts: list[Check]) -> Check:
    return lambda ended, names: all(part(ended, names) for part in parts)


def _any(parts: list[Check]) -> Check:
    return lambda ended, names: any(part(ended, names) for part in parts)


def _said(what: Expression) -> Check:
    return lambda ended, names: holds(ended.answer, value_of(what, ended.state, names))


def _called(given: dict[str, object], scope: Scope, tools: Mapping[str, frozenset[str]]) -> Check:
    name = given["called"]
    if not isinstance(name, str) or name not in tools:
        raise scope.bad(f"one of the tools {', '.join(sorted(tools))}", name)
    wanted = conditions(given.get("where", {}), name, replace(scope, tables={**scope.tables, name: tools[name]}))

    def do(ended: Ended, names: Names) -> bool:
        asked = evaluated(wanted, ended.state, names)
        return any(
            one.tool == name and all(test(one.arguments.get(field), value) for field, test, value in asked)
            for one in ended.calls
        )

    return do


def _counted(how: str, given: dict[str, object], scope: Scope) -> Check:
    table = given[how]
    scope.fields(table)
    assert isinstance(table, str)
    wanted = conditions(given.get("where", {}), table, scope)
    number = expression(given.get("is", 0), scope)

    def do(ended: Ended, names: Names) -> bool:
        found = len(matching(ended.state, table, wanted, names))
        if how == "count":
            return same(found, value_of(number, ended.state, names))
        return (found > 0) == (how == "exists")

    return do
