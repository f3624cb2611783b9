"""What a format's reader hands to the door: the steps of one run, before limits, origin and setting are settled."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from gelert.core.example import Gold
from gelert.core.trajectory import Setting, Step, ToolSpec


class Malformed(ValueError):  # noqa: N818 - a value in the making: the door turns it into a Refusal
    """A record is not what its format says; the text says what was expected, what came, and what to do."""


@dataclass
class Run:
    """One run as a reader found it."""

    steps: list[Step]
    tools: tuple[ToolSpec, ...] = ()
    trajectory_id: str = ""
    agent: str = ""
    setting: Setting = Setting.GENERAL
    gold: Gold | None = None
    ignored: Counter[str] = field(default_factory=Counter[str])
    """How many elements of each kind were passed over because they hold nothing that was said or done."""


class Reader(Protocol):
    """One format family; a module with two functions is one."""

    def detect(self, value: object) -> int:
        """How surely ``value`` is of this format: 0 is no, 100 is a signature. Looks at a few members only."""
        ...

    def read(self, value: object) -> list[Run]:
        """The runs that ``value`` holds; mostly one.

        Raises:
            Malformed: ``value`` is not of this format.
        """
        ...
