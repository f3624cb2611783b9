"""A small guard first, and a second one only where the first is unsure: a larger one, or one that says why.

::

    kind = "cascade"
    name = "default, then AgentDoG"
    second = "agentdog-1.5-coarse@http://127.0.0.1:8000/v1#AgentDoG1.5-4B"   # as after --guard
    low = 0.3                                    # risks from here
    high = 0.7                                   # to here are the second guard's to judge
    # first = "my-guard/"                        # a head guard's card; the default guard without it

What the second cannot judge has no verdict: the first was asked to say when it does not know, and it said so.
"""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gelert.core.errors import CardError
from gelert.core.trajectory import Step, Trajectory
from gelert.core.verdict import Unreadable, Unsafe, Verdict
from gelert.guard.guard import Guard, GuardSession, HeadGuard, judged, rises

Risk = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class CascadeCard(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["cascade"]
    name: str
    first: str = ""
    second: str
    low: Risk
    high: Risk

    @model_validator(mode="after")
    def _is_a_band(self) -> "CascadeCard":
        if self.low >= self.high:
            raise ValueError(f"expected low below high, got {self.low:g} and {self.high:g}: nothing would be unsure")
        return self


def load_cascade(path: Path) -> CascadeCard:
    """The card of a file.

    Raises:
        CardError: it cannot be read, or a field is unknown or wrong.
    """
    try:
        return CascadeCard.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise CardError(f"expected the card of a cascade, got {fault} ({path})") from None
    except ValidationError as fault:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the card'}: {e['msg']}" for e in fault.errors())
        raise CardError(f"expected the card of a cascade, got {found} ({path})") from None


@dataclass(frozen=True)
class Cascade:
    """Two guards as one."""

    card: CascadeCard
    first: HeadGuard
    second: Guard

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def concurrency(self) -> int:
        """That of the first, which reads every run."""
        return self.first.concurrency

    def judge(self, trajectory: Trajectory) -> Verdict:
        """The first guard's verdict, or the second's where its risk is in the band."""
        return judged(self, trajectory)

    def session(self, trajectory: Trajectory) -> "CascadeSession":
        """A running judgement that has read the tools of ``trajectory`` and none of its steps."""
        return CascadeSession(self, self.first.session(trajectory), replace(trajectory, steps=()))


@dataclass
class CascadeSession:
    """One trajectory being judged while it runs; the second guard sees it whole each time it is asked."""

    cascade: Cascade
    running: GuardSession
    read: Trajectory

    @property
    def kept_bytes(self) -> int:
        """What the first guard keeps to read on."""
        return self.running.kept_bytes

    def append(self, step: Step) -> None:
        """Read one more step."""
        self.running.append(step)
        self.read = replace(self.read, steps=(*self.read.steps, step))

    def verdict(self) -> Verdict:
        """The verdict on everything read so far."""
        first, card = self.running.verdict(), self.cascade.card
        if isinstance(first, Unreadable) or not card.low <= first.risk <= card.high:
            return first
        second = self.cascade.second.judge(self.read)
        if isinstance(second, Unreadable):
            return Unreadable(f"risk {first.risk:.2f} is in the band of {card.name!r}, and then: {second.reason}")
        if isinstance(second, Unsafe) and not second.evidence:
            return replace(second, evidence=rises(self.running.trace, self.running.risk_before))
        return second
