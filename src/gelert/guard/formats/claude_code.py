"""Claude Code transcripts: JSON Lines in a tree by ``parentUuid``; the whole file is one run.

Lines are read in file order, abandoned branches and sidechains too: whatever was done was done. A sidechain's steps are
marked by their provenance's kind, and the request that opens one is the runtime's (its words are the parent's call).
One API message that is split over several lines becomes one step.
"""

from collections import Counter
from dataclasses import replace

from gelert.core.trajectory import Provenance, Role, Step
from gelert.guard.formats.messages import merged, message_steps, named
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, came, first, sampled, text_at

_TALK = ("user", "assistant")
SIDECHAIN = "sidechain"


def detect(value: object) -> int:
    """95 where most lines bear a session and a place in the tree."""
    lines = sampled(value, 30) if isinstance(value, list) else [as_object(value)]
    tree = [line for line in lines if "uuid" in line and ("parentUuid" in line or "sessionId" in line)]
    said = [line for line in tree if text_at(line, "type") in (*_TALK, "system", "attachment")]
    return 95 if said and all("type" in line for line in lines) else 0


def read(value: object) -> list[Run]:
    """The one run of a transcript."""
    lines = as_list(value) if isinstance(value, list) else [value]
    if not any("type" in as_object(line) for line in lines):
        raise Malformed(f"expected transcript lines with a type and a uuid, got {came(value)}; pass --format if not")
    run = Run([], agent="claude-code")
    main = any(as_object(line).get("type") in _TALK and not as_object(line).get("isSidechain") for line in lines)
    seen: set[str] = set()
    turns = _Turns()
    for number, line in enumerate(lines):
        record = as_object(line)
        if not record:
            raise Malformed(f"expected a transcript line with a type, got {came(line)} at /{number}")
        identity = text_at(record, "uuid")
        if identity and identity in seen:
            run.ignored += Counter({"repeated line": 1})
            continue
        seen.add(identity)
        run.trajectory_id = run.trajectory_id or text_at(record, "sessionId")
        steps = _line(record, f"/{number}", run)
        message_id = text_at(as_object(record.get("message")), "id") if record.get("type") == "assistant" else ""
        turns.add([_sidelong(x, main) for x in steps] if record.get("isSidechain") else steps, message_id)
    run.steps = named(turns.steps())
    return [run]


class _Turns:
    """The steps so far; the lines of one API message are one turn, even where a result stands between them."""

    def __init__(self) -> None:
        self._turns: list[list[Step]] = []
        self._places: dict[str, int] = {}
        self._barrier = -1

    def add(self, found: list[Step], message_id: str) -> None:
        """Append what a line says, or join it to the turn that its message began since anybody else last spoke."""
        place = self._places.get(message_id, -1) if message_id else -1
        if place > self._barrier:
            self._turns[place] += found
            return
        if message_id:
            self._places[message_id] = len(self._turns)
        self._turns += [[step] for step in found]
        if any(step.role not in (Role.AGENT, Role.TOOL) for step in found):
            self._barrier = len(self._turns) - 1

    def steps(self) -> list[Step]:
        """One step a turn."""
        return [merged(turn) for turn in self._turns]


def _sidelong(step: Step, main: bool) -> Step:  # noqa: FBT001 - private, and one flag says it all
    role = Role.RUNTIME if main and step.role == Role.USER else step.role
    return replace(step, role=role, provenance=replace(step.provenance, kind=SIDECHAIN))


def _line(line: Object, pointer: str, run: Run) -> list[Step]:
    kind, stamp = text_at(line, "type"), text_at(line, "timestamp")
    if kind in _TALK and isinstance(line.get("message"), (dict, str)):
        message = line["message"] if isinstance(line["message"], dict) else {"content": line["message"]}
        steps = message_steps(message, f"{pointer}/message", role=kind, timestamp=stamp)
        if kind == "assistant":
            run.agent = text_at(as_object(message), "model") or run.agent
        injected = line.get("isMeta") is True or line.get("isCompactSummary") is True
        return [replace(x, role=Role.RUNTIME) if injected and x.role == Role.USER else x for x in steps]
    if kind == "system" and (text := text_of(first(line, "content", "message"))):
        return [Step(Role.RUNTIME, text, provenance=Provenance(pointer, kind, stamp))]
    run.ignored += Counter({kind or "untyped": 1})
    return []
