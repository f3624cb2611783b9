"""Server-sent events: the JSON objects that a stream of bytes holds, and such a stream out of objects.

Lines end and events part as the WHATWG's HTML standard says (section 9.2.6), so that no client reads in a stream what
was not read here. What is not JSON is refused: nobody could say what a client makes of it.
"""

import json
import re
from typing import NoReturn

from gelert.guard.formats.run import Malformed
from gelert.guard.formats.untrusted import Object, as_object, came

DONE = "[DONE]"
"""How streams in OpenAI's dialects say that they are over."""

_LINE_ENDS = re.compile(r"\r\n|\n|\r")


def events(raw: bytes) -> list[Object]:
    """The objects in the order they came; one that the end of the stream cut short counts as well.

    Raises:
        Malformed: the bytes are not UTF-8, or an event's data is not a JSON object.
    """
    try:
        lines = _LINE_ENDS.split(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Malformed("expected a stream in UTF-8, got other bytes") from None
    found: list[Object] = []
    data: list[str] = []
    for line in [*lines, ""]:
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            found += _event("\n".join(data))
            data = []
    return found


def frame(event: Object, name: str = "") -> bytes:
    """One event as bytes."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(event)}\n\n".encode()


def parsed(raw: bytes | str) -> Object:
    """The JSON object that a body holds.

    Raises:
        Malformed: it holds none.
    """
    try:
        value: object = json.loads(raw, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise Malformed("expected JSON, got something else") from None
    if not isinstance(value, dict):
        raise Malformed(f"expected a JSON object, got {came(value)}")
    return as_object(value)


def _event(data: str) -> list[Object]:
    return [] if not data.strip() or data.strip() == DONE else [parsed(data)]


def _constant(name: str) -> NoReturn:
    raise ValueError(name)
