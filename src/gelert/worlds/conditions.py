"""What a row must be to count: conditions on its fields, checked and compiled.

``{"from": "$who"}`` for the same value; ``{"subject": {"has": "$part"}}``, and so ``lacks``, ``isnt``, ``above`` and
``below``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

from gelert.worlds.expressions import Expression, Scope, expression, holds, is_number, same

Conditions = list[tuple[str, Callable[[object, object], bool], Expression]]
"""A field, a test of what it holds against what is wanted, and what is wanted."""


def _differs(one: object, other: object) -> bool:
    return not same(one, other)


def _lacks(text: object, part: object) -> bool:
    return not holds(text, part)


def _above(one: object, other: object) -> bool:
    return is_number(one) and is_number(other) and one > other


def _below(one: object, other: object) -> bool:
    return is_number(one) and is_number(other) and one < other


COMPARISONS: Mapping[str, Callable[[object, object], bool]] = MappingProxyType(
    {"has": holds, "lacks": _lacks, "isnt": _differs, "above": _above, "below": _below}
)


def conditions(source: object, table: str, scope: Scope) -> Conditions:
    """Check and compile the conditions of a ``where`` on rows of ``table``.

    Raises:
        InputError: a field is not one of the table's, or what is wanted is no expression.
    """
    if not isinstance(source, dict):
        raise scope.bad('"where" with fields', source)
    found: Conditions = []
    for field, wanted in cast("dict[str, object]", source).items():
        if field != "id" and field not in scope.fields(table):
            raise scope.bad(f"a field of {table} ({', '.join(sorted(scope.fields(table)))})", field)
        shape = cast("dict[str, object]", wanted) if isinstance(wanted, dict) else {}
        name = next(iter(shape), "")
        if len(shape) == 1 and name in COMPARISONS:
            found.append((field, COMPARISONS[name], expression(shape[name], scope)))
        else:
            found.append((field, same, expression(wanted, scope)))
    return found
