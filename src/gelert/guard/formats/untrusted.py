"""Typed looks at JSON that a stranger wrote: each gives one type, and what has another type stays visible."""

import json
from typing import cast

from gelert.core.trajectory import json_text

Object = dict[str, object]
"""A JSON object, keys in the order they came."""


def as_object(value: object) -> Object:
    """The object itself, or an empty one if ``value`` is something else."""
    return cast("Object", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """The list itself, or an empty one if ``value`` is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The text itself; nothing for null; the JSON of whatever else stands where a text should."""
    return "" if value is None else json_text(value)


def json_value(value: object) -> object:
    """What JSON text holds; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def first(record: Object, *keys: str) -> object:
    """The value of the first of ``keys`` that is there and not null."""
    return next((record[key] for key in keys if record.get(key) is not None), None)


def text_at(record: Object, *keys: str) -> str:
    """The text under the first of ``keys`` that is there and not null."""
    return as_text(first(record, *keys))


def objects(value: object) -> list[Object]:
    """The objects of a list; other members are left out."""
    return [cast("Object", item) for item in as_list(value) if isinstance(item, dict)]


def sampled(value: object, count: int = 12) -> list[Object]:
    """The first few members of a list if every one of them is an object, else nothing; what detectors look at."""
    head = as_list(value)[:count]
    return [as_object(item) for item in head] if all(isinstance(item, dict) for item in head) else []


def came(value: object) -> str:
    """What ``value`` is, in a few words, for a message to the user."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return f"a list of {len(as_list(value))}"
        case dict():
            keys = sorted(as_object(value))[:8]
            return f"an object with the keys {', '.join(repr(key[:40]) for key in keys)}" if keys else "an empty object"
        case _:
            return type(value).__name__


def has_text_keys(value: object) -> bool:
    """Whether an object's keys are texts, as JSON's are; Python's own need not be."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in cast("dict[object, object]", value))
