"""Logs that grow: what was read of one is kept, and at the next event only what was added is parsed.

A log is taken up again only if it begins with the very bytes that were read, told by their digest; else it is read
anew. So nothing that is kept outlives a change of what it was read from.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from gelert.core.errors import InputError
from gelert.core.trajectory import Origin, Setting, Trajectory
from gelert.guard.formats import FORMATS, Limits
from gelert.guard.formats.limits import excess, too_long
from gelert.guard.formats.lines import lines_of
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.sources import decoded

MOST_KEPT_BYTES = 16 << 20
"""Of logs whose lines are kept, all together; as values they take four to five times as much."""
MOST_KEPT = 64
PEEK = 30
"""Lines by which a log is known to be of its format."""


@dataclass(frozen=True, slots=True)
class _Read:
    count: int
    """Bytes."""
    digest: bytes
    lines: Sequence[object]


class Growing:
    """The lines of logs as JSON values; used from several threads."""

    def __init__(self, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._kept: OrderedDict[str, _Read] = OrderedDict()
        self._lock = threading.Lock()
        self._most_bytes = most_bytes

    def lines(self, path: str, raw: bytes, limits: Limits) -> Sequence[object]:
        """The values of the lines of a log.

        Args:
            path: of the log.
            raw: all that is written there, in whole lines.
            limits: on each line.

        Raises:
            InputError: a line cannot be read.
        """
        with self._lock:
            before = self._kept.get(path)
        if before is None or _digest(raw[: before.count]) != before.digest:
            before = _Read(0, _digest(b""), ())
        if before.count == len(raw):
            return before.lines
        found = _Read(len(raw), _digest(raw), [*before.lines, *_values(raw[before.count :], path, limits)])
        self._keep(path, found)
        return found.lines

    def _keep(self, path: str, found: _Read) -> None:
        with self._lock:
            self._kept[path] = found
            self._kept.move_to_end(path)
            while len(self._kept) > MOST_KEPT or sum(one.count for one in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)


def run_of(lines: list[object], name: str, setting: Setting, limits: Limits) -> Trajectory:
    """The one run that the lines of a log tell.

    Raises:
        InputError: they are not of the format ``name``, or tell none.
    """
    if FORMATS[name].detect(lines[:PEEK]) <= 0:
        raise InputError(f"expected a log of the format {name!r}, got other lines")
    try:
        (run,) = FORMATS[name].read(lines)
    except Malformed as fault:
        raise InputError(str(fault)) from None
    if not run.steps:
        raise InputError(f"expected at least one message in a log of the format {name!r}, got none")
    found = Trajectory(
        tuple(run.steps), run.tools, run.trajectory_id, setting, run.agent, Origin("<transcript>", 0, name)
    )
    if reason := too_long(found, limits):
        raise InputError(reason)
    return found


def _values(raw: bytes, path: str, limits: Limits) -> list[object]:
    try:
        text = decoded(raw)
    except Malformed as fault:
        raise InputError(str(fault)) from None
    found: list[object] = []
    for line in lines_of(text, path):
        reason = line.bad.reason if line.bad else excess(line.value, limits)
        if reason:
            raise InputError(reason)
        found.append(line.value)
    return found


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=32).digest()
