"""A simulated shell: lines of a bounded set, each of which is another tool of the world; nothing is executed.

It is a tool of kind ``shell``::

    {"name": "run", "about": "...", "kind": "shell",
     "commands": [{"line": "cat {path}", "does": "read_file"}, {"line": "curl -s {url} | sh", "does": "run_remote"}]}

``{path}`` takes one word, ``{words*}`` at the end takes the rest. Lines may be joined by ``&&`` and ``;``.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gelert.worlds.expressions import CallError
from gelert.worlds.state import CLEAN, State, Taint, Value

MOST_PARTS, LONGEST_LINE = 8, 2000


class Outcome(NamedTuple):
    """What a call did."""

    ok: bool
    result: Mapping[str, object]
    taint: Taint
    """Of the result."""
    touched: Mapping[tuple[str, str], Taint]
    """Table and key of each row written, and what made that happen."""


def failed(message: str, taint: Taint = CLEAN) -> Outcome:
    """Of a call that did nothing."""
    return Outcome(ok=False, result={"error": message}, taint=taint, touched={})


class Runs(Protocol):
    """What a line can stand for: a tool."""

    def run(self, state: State, arguments: Mapping[str, Value], taints: Mapping[str, Taint]) -> Outcome:
        """Do the call."""
        ...


@dataclass(frozen=True)
class Command:
    """A line that the shell knows."""

    words: tuple[str, ...]
    """Each itself, ``{name}`` for one word, or ``{name*}`` for the rest."""
    does: Runs

    def match(self, words: Sequence[str]) -> dict[str, Value] | None:
        """The arguments in ``words``, None where it is another line."""
        found: dict[str, Value] = {}
        for at, pattern in enumerate(self.words):
            if pattern.endswith("*}"):
                found[pattern[1:-2]] = " ".join(words[at:])
                return found if at < len(words) else None
            if at >= len(words):
                return None
            if pattern.startswith("{"):
                found[pattern[1:-1]] = words[at]
            elif pattern != words[at]:
                return None
        return found if len(words) == len(self.words) else None


def run(commands: Sequence[Command], state: State, line: str, taint: Taint) -> Outcome:
    """Do the parts of a line one after another, as far as one fails before ``&&``.

    Args:
        commands: that are known; the first that matches is done.
        state: changed by each part that succeeds.
        line: as the agent wrote it.
        taint: of the line, and so of each word.
    """
    try:
        parts = _parts(line)
    except CallError as fault:
        return failed(str(fault), taint)
    outputs: list[str] = []
    whole, touched, ok = taint, dict[tuple[str, str], Taint](), True
    for words, must_go_well in parts:
        found = _one(commands, state, words, taint)
        whole |= found.taint
        for place, own in found.touched.items():
            touched[place] = touched.get(place, CLEAN) | own
        outputs.append(_text(found.result))
        ok = found.ok
        if not ok and must_go_well:
            break
    return Outcome(ok=ok, result={"output": "\n".join(filter(None, outputs))}, taint=whole, touched=touched)


def _parts(line: str) -> list[tuple[list[str], bool]]:
    """Words of each part, and whether the next one is done only if it went well."""
    if len(line) > LONGEST_LINE:
        raise CallError(f"expected a line of at most {LONGEST_LINE} characters, got {len(line)}")
    try:
        words = shlex.split(line.replace(";", " ; "))
    except ValueError as fault:
        raise CallError(f"expected a shell line, got one that does not end: {fault}") from None
    parts: list[tuple[list[str], bool]] = [([], False)]
    for word in words:
        if word in ("&&", ";"):
            parts[-1] = parts[-1][0], word == "&&"
            parts.append(([], False))
        else:
            parts[-1][0].append(word)
    if len(parts) > MOST_PARTS or not all(own for own, _ in parts):
        raise CallError(f"expected 1 to {MOST_PARTS} commands on a line, none of them empty")
    return parts


def _one(commands: Sequence[Command], state: State, words: list[str], taint: Taint) -> Outcome:
    for command in commands:
        arguments = command.match(words)
        if arguments is not None:
            return command.does.run(state, arguments, dict.fromkeys(arguments, taint))
    return failed(f"{words[0][:80]}: not found, or not allowed in this form")


def _text(result: Mapping[str, object]) -> str:
    if set(result) <= {"output", "error"}:
        return "\n".join(str(value) for value in result.values())
    return json.dumps(result, ensure_ascii=False)
