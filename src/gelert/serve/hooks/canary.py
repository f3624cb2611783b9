"""Marks by which ``gelert doctor`` sees whether an installed runtime asks, and whether a block stops it.

A question whose last step bears a mark is judged like any other and, besides, counts as unsafe: the policy says what
that means on its surface. So a mark only ever tightens, and a policy that merely observes is seen to do so.
"""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from gelert.core.decision import Decision, strictest
from gelert.core.trajectory import Step
from gelert.core.verdict import Reading, Unsafe
from gelert.guard.policy import Policy
from gelert.serve.asked import Answered, Asked, PolicySource, ruled
from gelert.serve.hooks.event import Event
from gelert.serve.replies import Object, decision_json

MOST_MARKS = 16
KEPT_SECONDS = 900.0
MOST_SEEN = 100
PREFIX = "gelert-canary-"


@dataclass
class _Mark:
    since: float
    seen: list[Object] = field(default_factory=list[Object])


class Canaries:
    """The marks that are out; used from the event loop only."""

    def __init__(self) -> None:
        self._marks: OrderedDict[str, _Mark] = OrderedDict()

    def begin(self) -> str:
        """A fresh mark."""
        oldest = time.monotonic() - KEPT_SECONDS
        while self._marks and (len(self._marks) >= MOST_MARKS or next(iter(self._marks.values())).since < oldest):
            self._marks.popitem(last=False)
        name = PREFIX + secrets.token_hex(8)
        self._marks[name] = _Mark(time.monotonic())
        return name

    def seen(self, name: str) -> list[Object] | None:
        """Where the mark was seen and what was decided there; None if it is not out."""
        mark = self._marks.get(name)
        return list(mark.seen) if mark else None

    def tightened(self, asked: Asked, answered: Answered, found: Event, policy: PolicySource | Policy) -> Decision:
        """The decision, with an unsafe verdict besides where the step in question bears a mark."""
        names = [name for name in self._marks if asked.trajectory.steps and _bears(asked.trajectory.steps[-1], name)]
        if not names:
            return answered.decision
        marked = _unsafe(asked, policy)
        for name in names:
            seen = self._marks[name].seen
            if len(seen) < MOST_SEEN:
                told: Object = {"event": found.name, "runtime": found.runtime.value}
                told["verdict"] = type(answered.verdict).__name__.lower()
                seen.append(told | {"marked": decision_json(marked), "judged": decision_json(answered.decision)})
        return strictest(answered.decision, marked)


def _bears(step: Step, name: str) -> bool:
    return any(name in text for text in (step.text, *(call.arguments for call in step.calls)))


def _unsafe(asked: Asked, policy: PolicySource | Policy) -> Decision:
    steps = len(asked.trajectory.steps)
    verdict = Unsafe(1.0, Reading(steps, steps), rationale="it bears the mark of gelert doctor")
    return ruled(policy, verdict, asked).decision
