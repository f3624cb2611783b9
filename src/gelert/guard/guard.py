"""Judges a trajectory, whole or as it grows, with a head on a frozen local model.

``judge(t)`` is ``session(t.tools)`` fed with every step of ``t``: there is one code path, so an online verdict and an
offline one cannot differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from gelert.backends.local import LocalModel
from gelert.core.errors import CardError
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Evidence, Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.calibrate import Calibration
from gelert.guard.card import Card, load
from gelert.guard.features import FeatureReader, Readouts
from gelert.guard.head import Features, Head

EVIDENCE_STEPS = 3
"""A verdict names at most this many steps."""


class Guard(Protocol):
    """Anything that judges a trajectory. ``HeadGuard`` and ``EndpointGuard`` are the two kinds."""

    @property
    def name(self) -> str:
        """How figures and records call it."""
        ...

    @property
    def concurrency(self) -> int:
        """How many trajectories at once it is best asked to judge, each in a thread of its own."""
        ...

    def judge(self, trajectory: Trajectory) -> Verdict:
        """The verdict; an ``Unreadable`` one rather than an exception when no answer can be had."""
        ...


class Running(Protocol):
    """A judgement that is fed step by step. ``GuardSession`` and ``CascadeSession`` are the two kinds."""

    @property
    def kept_bytes(self) -> int:
        """What it keeps to read on, texts aside."""
        ...

    def append(self, step: Step) -> None:
        """Read one more step."""
        ...

    def verdict(self) -> Verdict:
        """On everything read so far."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A guard that can be fed step by step."""

    def session(self, trajectory: Trajectory) -> Running:
        """A judgement that has read the tools of ``trajectory`` and none of its steps."""
        ...


def judged(guard: Resumable, trajectory: Trajectory) -> Verdict:
    """The verdict of a guard that is fed with every step."""
    if not trajectory.steps:
        return Unreadable("expected at least one step, got an empty trajectory")
    session = guard.session(trajectory)
    for step in trajectory.steps:
        session.append(step)
    return session.verdict()


@dataclass(frozen=True)
class HeadGuard:
    """A guard card in memory, on its model."""

    card: Card
    head: Head
    model: LocalModel

    @classmethod
    def load(cls, folder: Path) -> "HeadGuard":
        """Load a guard and the blocks of the model that it needs.

        Raises:
            CardError: the card is wrong, or was fitted to other weights than the model's.
            MissingError: the model or an extra is not installed.
        """
        card, head = load(folder)
        model = LocalModel.load(card.model.name, layers=card.model.layers, dtype=card.model.dtype)
        if model.fingerprint != card.model.fingerprint:
            raise CardError(
                f"expected model weights {card.model.fingerprint} for guard {card.name!r}, got {model.fingerprint};"
                f" run: gelert model pull {card.model.name}"
            )
        return cls(card, head, model)

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def concurrency(self) -> int:
        """One: reading one trajectory keeps all cores busy."""
        return 1

    @cached_property
    def readouts(self) -> Readouts:
        """Where the head reads, in the model's tokens."""
        return Readouts.build([(r.tail, r.layer) for r in self.card.readouts], self.card.pools, self.model)

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Read the whole trajectory and judge it; evidence is where the risk rose."""
        return judged(self, trajectory)

    def session(self, trajectory: Trajectory) -> "GuardSession":
        """A running judgement that has read the tools of ``trajectory`` and none of its steps."""
        return GuardSession(self, replace(trajectory, steps=()))


@dataclass
class GuardSession:
    """One trajectory being judged while it runs."""

    guard: HeadGuard
    start: Trajectory
    steps_read: int = 0
    trace: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(step, risk) after each of the agent's steps."""
    _closed: tuple[float, Features] | None = field(default=None, init=False)
    """The worst window that was full and left, and its score."""
    _reader: FeatureReader = field(init=False)

    def __post_init__(self) -> None:
        guard = self.guard
        self._reader = FeatureReader(guard.model, self.start, guard.readouts, guard.card.window_plan)

    @property
    def risk_before(self) -> float:
        """Risk before the agent's first step: of a run about which nothing is known."""
        return self._calibration.risk(self.guard.head.bias)

    @property
    def kept_bytes(self) -> int:
        """What is kept to read on: keys, values and counts; texts aside."""
        return self._reader.kept_bytes

    def append(self, step: Step) -> None:
        """Read one more step; after a step of the agent, the risk so far is added to ``trace``."""
        for window in self._reader.append(step):
            self._closed = self._worse(window)
        self.steps_read += 1
        if step.role is Role.AGENT:
            self.trace.append((self.steps_read - 1, self._calibration.risk(self._worst()[0])))

    def verdict(self) -> Verdict:
        """The verdict on everything read so far."""
        if not self.trace:
            return Unreadable(f"expected at least one step of the agent, got none in {self.steps_read} steps")
        score, features = self._worst()
        if not np.isfinite(score):
            return Unreadable("expected a finite score, got one that is not; are the model's weights damaged?")
        risk = self._calibration.risk(score)
        reading = Reading(self.steps_read, self.steps_read, self._reader.windows, self._reader.elided_characters)
        if risk < self._calibration.threshold:
            return Safe(risk, reading)
        return Unsafe(risk, reading, self.guard.head.diagnosis(features), rises(self.trace, self.risk_before))

    @property
    def _calibration(self) -> Calibration:
        return self.guard.card.scores

    def _worst(self) -> tuple[float, Features]:
        """The worst window decides: harm done early is not undone by a quiet end."""
        current = self._reader.features()
        found = self._closed if current is None else self._worse(current)
        assert found is not None, "after a step of the agent there is a window in which it acts"
        return found

    def _worse(self, window: Features) -> tuple[float, Features]:
        """The worse of a window and the worst one that was left; a score that is not a number is the worst."""
        score = self.guard.head.score(window)
        kept = self._closed
        return kept if kept is not None and not (score > kept[0] or np.isnan(score)) else (score, window)


def rises(trace: Sequence[tuple[int, float]], before: float, most: int = EVIDENCE_STEPS) -> tuple[Evidence, ...]:
    """The steps at which the risk rose most, largest first; if it never rose, the step at which it was highest.

    Args:
        trace: (step, risk) after each of the agent's steps.
        before: the risk before the first of them.
        most: how many steps to name.

    >>> rises([(1, 0.2), (3, 0.9), (5, 0.8)], before=0.1)
    (Evidence(step=3, weight=0.7), Evidence(step=1, weight=0.1))
    """
    found: list[Evidence] = []
    for step, risk in trace:
        if risk > before:
            found.append(Evidence(step, round(risk - before, 4)))
        before = risk
    if not found and trace:
        found = [Evidence(max(trace, key=lambda t: t[1])[0], 0.0)]
    return tuple(sorted(found, key=lambda e: (-e.weight, e.step))[:most])
