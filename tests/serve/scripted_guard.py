"""A guard with one rule: an agent that says or sends the mark is unsafe. It can be told to fail in every way."""

import threading
from dataclasses import dataclass, field
from enum import Enum, auto

from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Evidence, Reading, Safe, Unreadable, Unsafe, Verdict

MARK = "UNSAFE-MARK"


class Mood(Enum):
    WELL = auto()
    HANGS = auto()
    RAISES = auto()
    UNREADABLE = auto()


@dataclass
class ScriptedGuard:
    """Judges by the mark, unless its mood is another; ``hang_seconds`` ends a hang, and so does ``release``."""

    mood: Mood = Mood.WELL
    hang_seconds: float = 60.0
    concurrency: int = 1
    release: threading.Event = field(default_factory=threading.Event)
    judged: list[int] = field(default_factory=list[int])
    """How many steps each trajectory had that it was asked about."""

    @property
    def name(self) -> str:
        return "scripted"

    def judge(self, trajectory: Trajectory) -> Verdict:
        self.judged.append(len(trajectory.steps))
        match self.mood:
            case Mood.HANGS:
                self.release.wait(self.hang_seconds)
            case Mood.RAISES:
                raise RuntimeError("told to fail")
            case Mood.UNREADABLE:
                return Unreadable("told to be unreadable")
            case Mood.WELL:
                pass
        marked = [n for n, step in enumerate(trajectory.steps) if is_marked(step)]
        reading = Reading(len(trajectory.steps), len(trajectory.steps))
        if marked:
            return Unsafe(0.99, reading, evidence=tuple(Evidence(n, 0.9) for n in marked[:3]))
        return Safe(0.01, reading)


def is_marked(step: Step) -> bool:
    """Whether a step of the agent carries the mark in its text or in a call's arguments."""
    texts = (step.text, *(call.arguments for call in step.calls))
    return step.role is Role.AGENT and any(MARK in text for text in texts)


@dataclass
class ResumableGuard(ScriptedGuard):
    """The same rule, fed step by step; ``read`` counts the steps it has read in all."""

    read: int = 0

    def session(self, trajectory: Trajectory) -> "ScriptedSession":
        del trajectory
        return ScriptedSession(self)


@dataclass
class ScriptedSession:
    guard: ResumableGuard
    steps: list[Step] = field(default_factory=list[Step])

    @property
    def kept_bytes(self) -> int:
        return 1_000

    def append(self, step: Step) -> None:
        self.guard.read += 1
        self.steps.append(step)

    def verdict(self) -> Verdict:
        return self.guard.judge(Trajectory(tuple(self.steps)))
