"""What the head sees of a run, window by window: shared by the guard that judges and the forge that fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gelert.backends.local import LocalModel, Reader
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.guard.head import Features, Floats
from gelert.guard.lookalikes import plain_step
from gelert.guard.prompts.render import render
from gelert.guard.traits import Ledger
from gelert.guard.windows import WindowedReader, WindowPlan
from gelert.guard.words import Tally, step_terms

Place = tuple[str, int]
"""A tail and a layer: the state after ``layer`` blocks at the last token of ``tail``, were it to come next."""


@dataclass(frozen=True)
class Readouts:
    """Where hidden states are read, as tokens: equal tails are read once."""

    tails: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]
    picks: tuple[tuple[int, int], ...]
    """Per readout, its place in ``tails`` and in ``layers``."""
    pools: tuple[int, ...]
    """After how many blocks the states of the agent's tokens are averaged."""

    @classmethod
    def build(cls, places: Sequence[Place], pools: Sequence[int], model: LocalModel) -> "Readouts":
        """Readouts from (tail, layer) pairs and pooled layers."""
        tails = list(dict.fromkeys(tail for tail, _ in places))
        layers = sorted({layer for _, layer in places})
        picks = tuple((tails.index(tail), layers.index(layer)) for tail, layer in places)
        return cls(tuple(tuple(model.encode(t)) for t in tails), tuple(layers), picks, tuple(pools))

    def states(self, reader: Reader) -> Floats:
        """``[readouts, width]`` at the reader's place."""
        found = reader.states(self.tails, self.layers)
        return np.stack([found[tail, layer] for tail, layer in self.picks])


@dataclass
class FeatureReader:
    """Reads a growing run and sums what the head sees of the current window; a step costs only itself."""

    model: LocalModel
    start: Trajectory
    """The run before its first step: its tools."""
    readouts: Readouts
    plan: WindowPlan
    elided_characters: int = field(default=0, init=False)
    _windows: WindowedReader = field(init=False)
    _states: list[Floats] = field(default_factory=list[Floats], init=False)
    """After each step of the agent in the current window."""
    _tally: Tally = field(default_factory=Tally, init=False)
    _ledger: Ledger = field(init=False)
    """Of the whole run: where a word came from may lie windows back."""
    _current: Features | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        rendered = render(replace(self.start, steps=()))
        self._ledger = Ledger(self.start.tools)
        self._windows = WindowedReader(self.model, rendered.header, self.plan, self.readouts.pools)
        self.elided_characters = rendered.elided_characters + self._windows.elided_characters

    @property
    def windows(self) -> int:
        """How many windows were opened."""
        return self._windows.windows

    @property
    def kept_bytes(self) -> int:
        """Of the current window's keys and values and its counts; texts aside."""
        return self._windows.reader.kept_bytes + self._tally.kept_bytes

    def append(self, step: Step) -> list[Features]:
        """Read one more step; gives the windows that were full and left on the way and in which the agent acts."""
        step = plain_step(step)
        rendered = render(replace(self.start, tools=(), steps=(step,)))
        self.elided_characters += rendered.elided_characters
        terms = step_terms(step, rendered.pieces[0])
        full = self._windows.append(rendered.pieces[0], step.role)
        left: list[Features | None] = []
        for reader in full:
            left.append(self._features(reader))
            self._states, self._tally = [], Tally()
            self._tally.add(terms)
        if not full:
            self._tally.add(terms)
        self._ledger.add(step)
        if step.role is Role.AGENT:
            self._states.append(self.readouts.states(self._windows.reader))
        self._current = None
        return [window for window in left if window is not None]

    def features(self) -> Features | None:
        """What the head sees of the current window; ``None`` while the agent has not acted in it."""
        if self._current is None:
            self._current = self._features(self._windows.reader)
        return self._current

    def _features(self, reader: Reader) -> Features | None:
        if not reader.pooled:
            return None
        states = self._states or [self.readouts.states(reader)]  # none yet: a window that ends inside a step
        rows = np.concatenate([np.mean(states, axis=0, dtype=np.float32), reader.pool()])
        return Features(rows, self._tally.counts(), self._ledger.values())


def read_whole(model: LocalModel, trajectory: Trajectory, readouts: Readouts, plan: WindowPlan) -> list[Features]:
    """What the head sees of each window of a whole run in which the agent acts, in order."""
    reader = FeatureReader(model, trajectory, readouts, plan)
    found = [window for step in trajectory.steps for window in reader.append(step)]
    last = reader.features()
    return found if last is None else [*found, last]
