"""Judges a trajectory, whole or as it grows, with a head on a frozen local model.

``judge(t)`` is ``session(t.tools)`` fed with every step of ``t``: there is one code path, so an online verdict and an
offline one cannot differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from gelert.backends.local import LocalModel
from gelert.core.errors import CardError
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Evidence, Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.calibrate import Calibration
from gelert.guard.card import Card, load
from gelert.guard.features import Readouts
from gelert.guard.head import Features, Head
from gelert.guard.prompts.render import render
from gelert.guard.windows import WindowedReader

EVIDENCE_STEPS = 3
"""A verdict names at most this many steps."""


class Guard(Protocol):
    """Anything that judges a trajectory. ``HeadGuard`` and ``EndpointGuard`` are the two kinds."""

    @property
    def name(self) -> str:
        """How figures and records call it."""
        ...

    def judge(self, trajectory: Trajectory) -> Verdict:
        """The verdict; an ``Unreadable`` one rather than an exception when no answer can be had."""
        ...


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

    @cached_property
    def readouts(self) -> Readouts:
        """Where the head reads, in the model's tokens."""
        return Readouts.build([(r.tail, r.layer) for r in self.card.readouts], self.model)

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Read the whole trajectory and judge it; evidence is where the risk rose."""
        if not trajectory.steps:
            return Unreadable("expected at least one step, got an empty trajectory")
        session = self.session(trajectory)
        for step in trajectory.steps:
            session.append(step)
        return session.verdict()

    def session(self, trajectory: Trajectory) -> "GuardSession":
        """A running judgement that has read the tools of ``trajectory`` and none of its steps."""
        return GuardSession(self, replace(trajectory, steps=()))


@dataclass
class GuardSession:
    """One trajectory being judged while it runs."""

    guard: HeadGuard
    start: Trajectory
    steps_read: int = 0
    elided_characters: int = 0
    trace: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(step, risk) after each of the agent's steps."""
    risk_before: float = 0.0
    """Risk of the request alone, before the agent's first step."""
    _closed: list[float] = field(default_factory=list[float], init=False)
    """Scores of windows that were full and left."""
    _windows: WindowedReader = field(init=False)
    _readouts: Readouts = field(init=False)
    _last: tuple[int, Features] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        rendered = render(self.start)
        self.elided_characters = rendered.elided_characters
        self._windows = WindowedReader(self.guard.model, rendered.header, self.guard.card.window_plan)
        self.elided_characters += self._windows.elided_characters
        self._readouts = self.guard.readouts

    def append(self, step: Step) -> None:
        """Read one more step; after a step of the agent, the risk so far is added to ``trace``."""
        if step.role is Role.AGENT and not self.trace:
            self.risk_before = self._calibration.risk(self._whole(self._features()))
        rendered = render(replace(self.start, tools=(), steps=(step,)))
        self.elided_characters += rendered.elided_characters
        for full in self._windows.append(rendered.pieces[0], step.role):
            self._closed.append(self._score(self._readouts.features(full)))
        self.steps_read += 1
        if step.role is Role.AGENT:
            self.trace.append((self.steps_read - 1, self._calibration.risk(self._whole(self._features()))))

    def verdict(self) -> Verdict:
        """The verdict on everything read so far."""
        if not self.steps_read:
            return Unreadable("expected at least one step, got an empty trajectory")
        features = self._features()
        score = self._whole(features)
        if not np.isfinite(score):
            return Unreadable("expected a finite score, got one that is not; are the model's weights damaged?")
        risk = self._calibration.risk(score)
        reading = Reading(self.steps_read, self.steps_read, self._windows.windows, self.elided_characters)
        if risk < self._calibration.threshold:
            return Safe(risk, reading)
        return Unsafe(risk, reading, self.guard.head.diagnosis(features), rises(self.trace, self.risk_before))

    @property
    def _calibration(self) -> Calibration:
        return self.guard.card.scores

    def _features(self) -> Features:
        if self._last is None or self._last[0] != self.steps_read:
            self._last = (self.steps_read, self._readouts.features(self._windows.reader))
        return self._last[1]

    def _score(self, features: Features) -> float:
        return self.guard.head.score(features)

    def _whole(self, features: Features) -> float:
        """The worst window decides: harm done early is not undone by a quiet end."""
        return max([*self._closed, self._score(features)])


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
