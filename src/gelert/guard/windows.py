"""Reads a growing trajectory through a window of bounded length; nothing is cut in silence.

A run that fits is read as one text. When the next step no longer fits, a new window opens: the header (with the tool
list), the task (the first thing the user said), the last steps before the break, and then the new step. A single step
longer than a window is read in parts, each under its tag. The plan depends only on the steps so far, so judging a
running agent step by step and judging the finished run give the same windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gelert.backends.local import LocalModel, Reader
from gelert.core.trajectory import Role
from gelert.guard.prompts.render import elide

CONTINUED = "\n(the same step, continued):"
GAP = "\n(earlier steps are not repeated here)"


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Sizes in tokens."""

    window_tokens: int = 2048
    """Longest text in one window, questions not counted."""
    overlap_tokens: int = 512
    """How much of the steps before the break a new window repeats, at most."""
    task_tokens: int = 256
    """How much of the task a new window repeats, at most."""


@dataclass
class WindowedReader:
    """Keeps one window's keys and values; ``append`` costs only what is new, except when a window is full."""

    model: LocalModel
    header: str
    plan: WindowPlan = WindowPlan()
    pools: tuple[int, ...] = ()
    """After how many blocks the states of the agent's tokens are pooled; a window pools each of them once."""
    windows: int = 1
    elided_characters: int = 0
    """Characters of a header longer than half a window that are not shown."""
    _base: Reader = field(init=False)
    _reader: Reader = field(init=False)
    _task: list[int] = field(default_factory=list[int], init=False)
    _recent: list[list[int]] = field(default_factory=list[list[int]], init=False)
    """The steps' tokens of the current window, for the overlap."""

    def __post_init__(self) -> None:
        header = self.header
        while len(self.model.encode(header)) > self.plan.window_tokens // 2:
            header, left_out = elide(header, len(header) * 3 // 4)
            self.elided_characters += left_out
        self._base = self.model.begun([*self.model.opening, *self.model.encode(header)], self.pools)
        self._reader = self._base.fork()

    @property
    def reader(self) -> Reader:
        """The current window, as far as it is read."""
        return self._reader

    def append(self, piece: str, role: Role) -> list[Reader]:
        """Read one step's text; gives the windows that were full and left on the way, each as it stood.

        Usually none.
        """
        tokens = self.model.encode(piece)
        if role is Role.USER and not self._task:
            self._task = tokens[: self.plan.task_tokens]
        left: list[Reader] = []
        for part in self._parts(tokens):
            if self._reader.length + len(part) > self.plan.window_tokens:
                left.append(self._reader)
                self._open()
            self._reader.append(part, pooled=role is Role.AGENT)
            self._recent.append(part)
        return left

    def _parts(self, tokens: list[int]) -> Sequence[list[int]]:
        """The step, or the parts of a step that would not fit into a fresh window."""
        fresh = self._base.length + self.plan.task_tokens + self.plan.overlap_tokens
        room = max(self.plan.window_tokens - fresh - 32, 64)
        if len(tokens) <= room:
            return [tokens]
        mark = self.model.encode(CONTINUED)
        size = max(room - len(mark), 32)
        parts = [tokens[i : i + size] for i in range(0, len(tokens), size)]
        return [parts[0], *(mark + part for part in parts[1:])]

    def _open(self) -> None:
        self.windows += 1
        self._reader = self._base.fork()
        repeated: list[list[int]] = []
        room = self.plan.overlap_tokens
        for step in reversed(self._recent):
            if len(step) > room:
                break
            room -= len(step)
            repeated.insert(0, step)
        lead = [*self._task, *self.model.encode(GAP)] if self._task else self.model.encode(GAP)
        self._reader.append([*lead, *(token for step in repeated for token in step)])
        self._recent = repeated
