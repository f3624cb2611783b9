"""JSON Lines: whether a text is of that form, and its values with their line numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

from gelert.core.example import Refusal
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.sources import parsed


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank: its value, or why it has none."""

    number: int
    value: object = None
    bad: Refusal | None = None


def lines_of(text: str, path: str) -> Iterator[Line]:
    """The lines, only line feeds parting them: other Unicode line ends are text."""
    start, number, record = 0, 0, 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line, start, number = text[start:end], end + 1, number + 1
        if not line.strip():
            continue
        try:
            yield Line(number, parsed(line))
        except Malformed as fault:
            yield Line(number, bad=Refusal(path, record, number, str(fault)))
        record += 1


def is_lines(text: str) -> bool:
    """Whether the text has a JSON value a line: one of its first lines with something on it is an object by itself."""
    start = found = 0
    while found < 3 and start < len(text):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)].strip()
        start = end + 1 if end >= 0 else len(text)
        if not line:
            continue
        found += 1
        if line.startswith("{") and line.endswith("}"):
            try:
                parsed(line)
            except Malformed:
                continue
            return bool(text[start:].strip()) or found > 1
    return False
