"""Which questions are about the same call, and how a person sees one before they answer.

Calls are the same on the same surface, in the same project, with the same tools and the same arguments. JSON that says
the same in another order or spacing is the same; JSON that readers may take in two ways (a key that stands twice) is
the same only to the letter.
"""

import json
from collections.abc import Iterator
from itertools import islice

from gelert.core.records import canonical, digest
from gelert.core.trajectory import ToolCall, json_text
from gelert.guard.formats.untrusted import as_object
from gelert.guard.policy import Surface
from gelert.serve.asked import Asked
from gelert.serve.redact import redacted

READ_CHARACTERS = 1 << 16
"""Of arguments that are read as JSON; longer ones are compared and shown as they were written."""

SHOWN_CHARACTERS = 2_000
SHOWN_ARGUMENTS = 50


def key_of(asked: Asked) -> str:
    """SHA-256 of what makes a call the same; empty if no call is in question."""
    if asked.surface is not Surface.TOOL_CALL or not asked.calls:
        return ""
    calls = [[call.name, _spelling(call.arguments)] for call in asked.calls]
    return digest([asked.surface.value, asked.project, calls])


def tools_of(asked: Asked) -> str:
    """The names of the tools that are called."""
    return shown(", ".join(dict.fromkeys(call.name for call in asked.calls)))


def arguments_of(asked: Asked) -> str:
    """The arguments, one a line, without secrets; what is cut ends in an ellipsis."""
    told = islice((shown(line) for call in asked.calls for line in lines(call)), SHOWN_ARGUMENTS + 1)
    text = "\n".join([line if n < SHOWN_ARGUMENTS else "…" for n, line in enumerate(told)])
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def shown(text: str) -> str:
    """The text without secrets, and with an escape for each letter that could hide or move others on a screen."""
    plain = redacted(text, SHOWN_CHARACTERS)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in plain)


def lines(call: ToolCall) -> Iterator[str]:
    """``name: value`` for each argument; the text itself where it is no object, or could be taken in two ways."""
    arguments = as_object(_read(call.arguments))
    if not arguments:
        yield call.arguments
    for name, value in arguments.items():
        yield f"{name}: {json_text(value)}"


def _spelling(arguments: str) -> str:
    try:
        return canonical(_read(arguments))
    except (ValueError, RecursionError):
        return arguments


def _read(arguments: str) -> object:
    """What JSON text says; the text itself where that is not sure."""
    if len(arguments) > READ_CHARACTERS:
        return arguments
    try:
        return json.loads(arguments, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):
        return arguments


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("expected each key once")
    return found
