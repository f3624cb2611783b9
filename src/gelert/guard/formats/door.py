"""The one door for logs: which format it is, which records it has, and an Example or a Refusal for each.

Whether a file of JSON Lines is one run (a session) or a run a line is told by its content: lines that mean nothing on
their own make a session. A bad line of a session is refused by number and the others are still read.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from gelert.core.errors import InputError
from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Origin, Setting, Trajectory
from gelert.guard.formats import archive, sources
from gelert.guard.formats.limits import Limits, excess, too_long
from gelert.guard.formats.lines import Line, is_lines, lines_of
from gelert.guard.formats.registry import FORMATS, recognised
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import as_list, came

AUTO = "auto"
_PEEK = 40
_DEFAULTS = Limits()


@dataclass(frozen=True, slots=True)
class Ignored:
    """Elements of a record that were passed over because they hold nothing said or done."""

    path: str
    record: int
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class _Ask:
    """How the caller wants it read."""

    format: str
    setting: Setting | None
    limits: Limits
    notes: list[Ignored] | None


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    record: int
    line: int | None = None

    def refusal(self, reason: str) -> Refusal:
        return Refusal(self.path, self.record, self.line, reason)


def read(
    path: Path | Literal["-"] | IO[bytes],
    *,
    format: str = AUTO,  # noqa: A002 - the flag's own name
    setting: Setting | None = None,
    limits: Limits = _DEFAULTS,
    notes: list[Ignored] | None = None,
) -> Iterator[Example | Refusal]:
    """The examples of a file, a folder (recursively, sorted), standard input (``-``) or a stream of bytes.

    Args:
        path: where the log is; gzip is told by its first bytes.
        format: one of ``FORMATS``, or ``auto`` to tell it by content.
        setting: overrides the setting that the format implies.
        limits: what is read at most.
        notes: filled, if given, with what was passed over in each record.

    Raises:
        InputError: there is no such file or format.
    """
    ask = _ask(format, setting, limits, notes)
    if not isinstance(path, Path):
        stream = sys.stdin.buffer if path == "-" else path
        assert not isinstance(stream, str)
        return _stream(stream, "<stdin>" if path == "-" else "<stream>", ask)
    return _files(sources.files_of(path), ask)


def read_values(
    value: object,
    *,
    format: str = AUTO,  # noqa: A002 - the flag's own name
    setting: Setting | None = None,
    limits: Limits = _DEFAULTS,
) -> list[Example | Refusal]:
    """The examples that a parsed JSON value holds: several for a log of samples or conversations.

    Raises:
        InputError: there is no such format.
    """
    return _record(value, _Place("<value>", 0), _ask(format, setting, limits, None))


def read_value(
    value: object,
    *,
    format: str = AUTO,  # noqa: A002 - the flag's own name
    setting: Setting | None = None,
    limits: Limits = _DEFAULTS,
) -> Example | Refusal:
    """The one example that a parsed JSON value holds; several are refused, never chosen from.

    Raises:
        InputError: there is no such format.
    """
    found = read_values(value, format=format, setting=setting, limits=limits)
    if len(found) == 1:
        return found[0]
    return Refusal("<value>", 0, None, f"expected one run, got {len(found)} in one value; send them one at a time")


def _ask(name: str, setting: Setting | None, limits: Limits, notes: list[Ignored] | None) -> _Ask:
    if name != AUTO and name not in FORMATS:
        raise InputError(f"expected a format out of {[AUTO, *FORMATS]}, got {name!r}; omit it to tell it by content")
    return _Ask(name, setting, limits, notes)


def _files(paths: list[Path], ask: _Ask) -> Iterator[Example | Refusal]:
    for number, path in enumerate(paths):
        if number >= ask.limits.max_files:
            yield _Place(str(path), 0).refusal(f"expected at most max_files={ask.limits.max_files}; raise the limit")
            return
        try:
            with path.open("rb") as stream:
                yield from _stream(stream, str(path), ask)
        except OSError as fault:
            yield _Place(str(path), 0).refusal(f"expected a readable file, got {fault.strerror}; check it")


def _stream(stream: IO[bytes], path: str, ask: _Ask) -> Iterator[Example | Refusal]:
    try:
        raw = sources.content(stream, ask.limits)
        if raw.startswith(archive.SIGNATURE):
            yield from _archive(raw, path, ask)
            return
        text = sources.decoded(raw)
    except Malformed as fault:
        yield _Place(path, 0).refusal(str(fault))
        return
    if not text.strip():
        yield _Place(path, 0).refusal("expected a log, got an empty file; check what wrote it")
        return
    yield from _capped(_lines(text, path, ask) if is_lines(text) else _document(text, path, ask), path, ask)


def _capped(found: Iterable[Example | Refusal], path: str, ask: _Ask) -> Iterator[Example | Refusal]:
    for number, item in enumerate(found):
        if number >= ask.limits.max_records:
            reason = f"expected at most max_records={ask.limits.max_records}, got more; raise the limit or split it"
            yield _Place(path, number).refusal(reason)
            return
        yield item


def _archive(raw: bytes, path: str, ask: _Ask) -> Iterator[Example | Refusal]:
    for number, text in enumerate(archive.archived(raw, ask.limits)):
        place = _Place(path, number)
        try:
            yield from _record(sources.parsed(text), place, ask)
        except Malformed as fault:
            yield place.refusal(str(fault))


def _document(text: str, path: str, ask: _Ask) -> Iterator[Example | Refusal]:
    try:
        value = sources.parsed(text)
    except Malformed as fault:
        yield _Place(path, 0).refusal(str(fault))
        return
    if not isinstance(value, list) or _is_one_run(as_list(value), ask):
        yield from _record(value, _Place(path, 0), ask)
        return
    for number, item in enumerate(as_list(value)):
        yield from _record(item, _Place(path, number), ask)


def _is_one_run(values: list[object], ask: _Ask) -> bool:
    """Whether a list is one run rather than a list of runs."""
    head = values[:_PEEK]
    if any(excess(value, ask.limits) for value in head):
        return False
    if ask.format != AUTO:
        return FORMATS[ask.format].detect(head) > 0
    return recognised(head) is not None and recognised(values[0]) in (None, recognised(head))


def _lines(text: str, path: str, ask: _Ask) -> Iterator[Example | Refusal]:
    numbered = lines_of(text, path)
    held: list[Line] = []
    for line in numbered:
        held.append(line)
        if len(held) >= _PEEK:
            break
    if _is_one_run([line.value for line in held if line.bad is None], ask):
        yield from _session([*held, *numbered], path, ask)
        return
    record = 0
    for source in (held, numbered):
        for line in source:
            place = _Place(path, record, line.number)
            yield from [line.bad] if line.bad else _record(line.value, place, ask)
            record += 1


def _session(lines: list[Line], path: str, ask: _Ask) -> Iterator[Example | Refusal]:
    yield from (line.bad for line in lines if line.bad)
    yield from _record([line.value for line in lines if line.bad is None], _Place(path, 0), ask)


def _record(value: object, place: _Place, ask: _Ask) -> list[Example | Refusal]:
    if reason := excess(value, ask.limits):
        return [place.refusal(reason)]
    name = ask.format if ask.format != AUTO else recognised(value)
    if name is None:
        reason = f"expected a trajectory of a known format, got {came(value)}; pass --format if it is one"
        return [place.refusal(reason)]
    try:
        runs = FORMATS[name].read(value)
    except Malformed as fault:
        return [place.refusal(str(fault))]
    return [_settled(run, name, place, ask) for run in runs] or [place.refusal("expected a run, got none in the log")]


def _settled(run: Run, name: str, place: _Place, ask: _Ask) -> Example | Refusal:
    if not run.steps:
        return place.refusal(f"expected at least one message, got none in a record of the format {name!r}")
    trajectory = Trajectory(
        tuple(run.steps),
        run.tools,
        run.trajectory_id,
        ask.setting or run.setting,
        run.agent,
        Origin(place.path, place.record, name),
    )
    if reason := too_long(trajectory, ask.limits):
        return place.refusal(reason)
    if ask.notes is not None:
        ask.notes.extend(Ignored(place.path, place.record, kind, count) for kind, count in run.ignored.items())
    return Example(trajectory, run.gold)
