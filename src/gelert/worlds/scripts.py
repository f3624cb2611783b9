"""Scripts of scripted agents: what they call, with what, and what they answer, checked and compiled.

A script is a list of steps::

    {"call": "find_mail", "with": {"sender": "$mail.sender"}}
    {"call": "create_order", "with": {"item": "$item.id"}, "keep": {"order": "id"}}    from then on $order
    {"answer": "Order {order} is placed."}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from gelert.worlds.expressions import Expression, Scope, expression, template

LONGEST_SCRIPT = 24


@dataclass(frozen=True, slots=True)
class Call:
    """A step that calls a tool."""

    tool: str
    arguments: Mapping[str, Expression]
    keep: Mapping[str, str]
    """Name from now on, and what of the result it stands for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The step that ends an episode."""

    text: Expression


Script = tuple[Call | Answer, ...]


def script(source: object, scope: Scope, tools: Mapping[str, frozenset[str]]) -> Script:
    """Check and compile.

    Args:
        source: the steps.
        scope: what they may name.
        tools: arguments of each tool that is offered.

    Raises:
        InputError: a step is none, or names what is not there; or something follows the answer, or there is none.
    """
    steps = cast("list[object]", source) if isinstance(source, list) else []
    if not 1 <= len(steps) <= LONGEST_SCRIPT:
        raise scope.bad(f"a script of 1 to {LONGEST_SCRIPT} steps", source)
    found: list[Call | Answer] = []
    for step in steps:
        given = cast("dict[str, object]", step) if isinstance(step, dict) else {}
        if set(given) == {"answer"}:
            found.append(Answer(template(given["answer"], scope)))
        else:
            call, scope = _call(given, scope, tools)
            found.append(call)
    if any(isinstance(one, Answer) != (at == len(found) - 1) for at, one in enumerate(found)):
        raise scope.bad("a script that ends with its one answer", source)
    return tuple(found)


def _call(given: dict[str, object], scope: Scope, tools: Mapping[str, frozenset[str]]) -> tuple[Call, Scope]:
    name, told, keep = given.get("call"), given.get("with", {}), given.get("keep", {})
    if not set(given) <= {"call", "with", "keep"} or not isinstance(name, str):
        raise scope.bad('a step: {"call": tool, "with": {...}, "keep": {...}} or {"answer": text}', given)
    if name not in tools:
        raise scope.bad(f"one of the tools {', '.join(sorted(tools))}", name)
    if not isinstance(told, dict) or not set(cast("dict[str, object]", told)) <= tools[name]:
        raise scope.bad(f"arguments of {name} ({', '.join(sorted(tools[name]))})", told)  # pyright: ignore[reportUnknownArgumentType]
    arguments = {one: expression(value, scope) for one, value in cast("dict[str, object]", told).items()}
    if not isinstance(keep, dict) or not all(isinstance(one, str) for one in cast("dict[str, object]", keep).values()):
        raise scope.bad("names and what of the result each stands for", keep)
    for one in cast("dict[str, str]", keep):
        scope = scope.bound(one, "value")
    return Call(name, arguments, cast("dict[str, str]", keep)), scope
