"""Rules on what an agent's calls may do together, in one line each; they can only make a decision stricter.

::

    untrusted value -> [send_mail, exec]    a value that a tool's result brought in is an argument of one of these
    sequence read_mail then [curl, exec]    a call of the second after a call of the first, whatever lies between
    tool outside [read, ls, mcp__notes__*]  a call of any other tool

A tool's name may end in ``*``. Rules are compiled to sets and to automata that read the run once, so time is linear in
its length; there are no regular expressions to write. A rule looks at the calls in question only (those at the end of
the run): what came before was decided before.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.guard.lookalikes import plain

MOST_CHARACTERS = 2_000
"""Of one rule."""

LEAST_VALUE_CHARACTERS = 6
"""Of a value that is followed: shorter ones occur everywhere."""

MOST_VALUE_CHARACTERS = 1_000
"""Of either part of a value that stands in two arguments."""

_TOKENS = re.compile(r"->|[\[\],]|[^\s\[\],]+")
_VALUES = re.compile(r"""[^\s"'`<>()\[\]{},;|\\=&]+""")
_VALUE_MARKS = frozenset("@._-/:0123456789")
_EDGES = ".:!?-"
_QUOTES = re.compile(r"""["'`\\]""")


@dataclass(frozen=True, slots=True)
class Tools:
    """A set of tools' names."""

    exact: frozenset[str]
    prefixes: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.exact or name.startswith(self.prefixes)


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A value that came out of a tool reaches one of these."""

    sinks: Tools

    def broken(self, run: Trajectory) -> bool:
        """Whether a call in question carries such a value."""
        asked = [call for call in questioned(run) if call.name in self.sinks]
        if not asked:
            return False
        brought = _brought(run)
        return any(value in brought for call in asked for value in _values(_arguments(call)))


@dataclass(frozen=True, slots=True)
class InTurn:
    """Calls of each of these in turn."""

    stages: Sequence[Tools]

    def broken(self, run: Trajectory) -> bool:
        """Whether a call in question ends such a sequence: an automaton whose state is how many stages are behind."""
        asked = questioned(run)
        earlier = run.steps[: len(run.steps) - _trailing(run)]
        state, last = 0, len(self.stages) - 1
        for call in (call for step in earlier for call in step.calls):
            state += state < last and call.name in self.stages[state]
        for call in asked:
            if state == last and call.name in self.stages[last]:
                return True
            state += state < last and call.name in self.stages[state]
        return False


@dataclass(frozen=True, slots=True)
class Outside:
    """A tool that is not one of these."""

    allowed: Tools

    def broken(self, run: Trajectory) -> bool:
        """Whether a call in question is of such a tool."""
        return any(call.name not in self.allowed for call in questioned(run))


Flow = Untrusted | InTurn | Outside


def flow(text: str) -> Flow:
    """The rule that ``text`` says.

    Raises:
        InputError: it says none; the message shows the three forms.
    """
    tokens = _TOKENS.findall(text) if len(text) <= MOST_CHARACTERS else []
    match tokens:
        case ["untrusted", "value", "->", *rest]:
            return Untrusted(_only(rest, text))
        case ["tool", "outside", *rest]:
            return Outside(_only(rest, text))
        case ["sequence", *rest]:
            stages = _stages(rest, text)
            if len(stages) > 1:
                return InTurn(stages)
        case _:
            pass
    raise _wrong(text)


def questioned(run: Trajectory) -> list[ToolCall]:
    """The calls in question: those of the agent's steps at the end of the run."""
    return [call for step in run.steps[len(run.steps) - _trailing(run) :] for call in step.calls]


def _trailing(run: Trajectory) -> int:
    count = 0
    while count < len(run.steps) and run.steps[-1 - count].role is Role.AGENT:
        count += 1
    return count


def _stages(tokens: list[str], text: str) -> list[Tools]:
    found: list[Tools] = []
    rest = tokens
    while rest:
        one, rest = _tools(rest, text)
        found.append(one)
        if rest:
            if rest[0] != "then" or len(rest) == 1:
                raise _wrong(text)
            rest = rest[1:]
    return found


def _only(tokens: list[str], text: str) -> Tools:
    found, rest = _tools(tokens, text)
    if rest:
        raise _wrong(text)
    return found


def _tools(tokens: list[str], text: str) -> tuple[Tools, list[str]]:
    """A name or a list of names, and what stands behind."""
    if tokens[:1] == ["["] and "]" in tokens:
        end = tokens.index("]")
        names, commas, rest = tokens[1:end:2], tokens[2:end:2], tokens[end + 1 :]
    else:
        names, commas, rest = tokens[:1], [], tokens[1:]
    sound = names and all(comma == "," for comma in commas) and len(commas) in (len(names) - 1, len(names))
    if not sound or any(set("[],") & set(name) or "*" in name[:-1] or name in ("*", "->", "then") for name in names):
        raise _wrong(text)
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return Tools(frozenset(name for name in names if not name.endswith("*")), prefixes), rest


def _wrong(text: str) -> InputError:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return InputError(
        "expected 'untrusted value -> [TOOL, ...]', 'sequence TOOL then TOOL' or 'tool outside [TOOL, ...]' "
        f"in at most {MOST_CHARACTERS} characters, got {shown!r}"
    )


def _brought(run: Trajectory) -> set[str]:
    """Values that a tool's result was first to say. What a person has said as well is theirs."""
    said: set[str] = set()
    brought: set[str] = set()
    for step in run.steps[: len(run.steps) - _trailing(run)]:
        found = set(_values(_texts(step)))
        if step.role is Role.TOOL:
            brought |= found - said
        elif step.role is not Role.RUNTIME:
            said |= found
        if step.trusted:
            brought -= found
    return brought


def _texts(step: Step) -> Iterator[str]:
    yield step.text
    yield step.thought
    for call in step.calls:
        yield from _arguments(call)


def _arguments(call: ToolCall) -> Iterator[str]:
    """The texts in a call's arguments as they were written, as a tool will see them, and as what it may make of them.

    A shell joins what stands on both sides of a quote, and a tool may join an argument to the next.
    """
    yield call.arguments
    parsed, before = call.parsed(), ""
    pending: list[object] = [call.arguments if parsed is None else parsed]
    while pending:
        match pending.pop():
            case str() as text:
                yield text
                yield _QUOTES.sub("", text)
                yield before[-MOST_VALUE_CHARACTERS:] + text[:MOST_VALUE_CHARACTERS]
                before = text
            case dict() as record:
                pending += [*reversed(record.values()), *record]
            case list() as items:
                pending += reversed(items)
            case int() | float() as number:
                yield json.dumps(number)
            case _:
                pass


def _values(texts: Iterator[str]) -> Iterator[str]:
    """Words that look like values (addresses, paths, numbers, keys), spelled so that look-alikes are equal."""
    for text in texts:
        for word in _VALUES.findall(_plain(text)):
            value = word.strip(_EDGES)
            if len(value) >= LEAST_VALUE_CHARACTERS and not _VALUE_MARKS.isdisjoint(value):
                yield value
                scheme, _, rest = value.partition("://")
                if rest:
                    yield rest.partition("/")[0]
                    yield scheme + "://" + rest.partition("/")[0]


def _plain(text: str) -> str:
    """One spelling: compatibility forms, case, and letters that cannot be seen are left out of account."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", plain(text)).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")
