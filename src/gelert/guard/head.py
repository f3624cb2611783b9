"""The guard's head: linear maps on hidden states and on counts of words. numpy only; fitting is ``gelert.forge``'s."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import CardError
from gelert.core.taxonomy import Axis, Diagnosis
from gelert.guard.words import Counts, WordWeights

Floats = NDArray[np.float32]

SMALLEST_SPREAD = 1e-3
"""Added to standard deviations, so that a constant feature does not explode."""

LARGEST_DEVIATION = 8.0
"""Features farther from the center than so many standard deviations are moved there: no input has unbounded weight."""


@dataclass(frozen=True)
class Features:
    """What the head sees of one window."""

    states: Floats
    """``[rows, width]``: first a row for each readout, the mean over the agent's steps; then a row for each pooled
    layer, the mean over the agent's tokens."""
    words: Counts


@dataclass(frozen=True)
class Normal:
    """Center and spread of every state feature, ``[rows, width]``."""

    center: Floats
    spread: Floats

    @classmethod
    def of(cls, states: Floats) -> "Normal":
        """Of one set of windows, ``[n, rows, width]``."""
        center = np.asarray(states.mean(axis=0), dtype=np.float32)
        return cls(center, np.asarray(states.std(axis=0), dtype=np.float32) + np.float32(SMALLEST_SPREAD))

    @classmethod
    def mean(cls, normals: Sequence["Normal"]) -> "Normal":
        """For a source never seen: the mean over the sources seen."""
        center = np.stack([n.center for n in normals]).mean(axis=0, dtype=np.float32)
        spread = np.stack([n.spread for n in normals]).mean(axis=0, dtype=np.float32)
        return cls(np.asarray(center), np.asarray(spread))

    def apply(self, states: Floats) -> Floats:
        """Standardised features, none farther out than ``LARGEST_DEVIATION``."""
        return np.clip((states - self.center) / self.spread, -LARGEST_DEVIATION, LARGEST_DEVIATION, dtype=np.float32)


@dataclass(frozen=True)
class Head:
    """``score = verdict . normal(states) + words(counts) + bias``; one softmax an axis on the states."""

    normal: Normal
    """Of the runs the guard is normalised to."""
    verdict: Floats
    """``[rows, width]``."""
    words: WordWeights
    bias: float = 0.0
    classes: Mapping[Axis, tuple[str, ...]] = field(default_factory=dict[Axis, tuple[str, ...]])
    axes: Mapping[Axis, Floats] = field(default_factory=dict[Axis, Floats])
    """``[classes, rows * width + 1]`` an axis; the last column is the bias."""

    def __post_init__(self) -> None:
        shapes = {self.normal.center.shape, self.normal.spread.shape, self.verdict.shape}
        if len(shapes) != 1 or self.verdict.ndim != 2:
            raise CardError(f"expected center, spread and verdict of one shape [rows, width], got {shapes}")
        for axis, matrix in self.axes.items():
            expected = (len(self.classes.get(axis, ())), self.verdict.size + 1)
            if matrix.shape != expected:
                raise CardError(f"expected weights of shape {expected} for axis {axis.value!r}, got {matrix.shape}")

    def score(self, features: Features) -> float:
        """How unsafe, before calibration; ``bias`` for a window like the mean of those normalised to."""
        states = self.normal.apply(features.states)
        return float(states.ravel() @ self.verdict.ravel()) + self.words.score(features.words) + self.bias

    def diagnosis(self, features: Features) -> Diagnosis:
        """The likeliest leaf of each axis that has weights."""
        x = np.append(self.normal.apply(features.states).ravel(), np.float32(1))
        best = {axis: self.classes[axis][int(np.argmax(matrix @ x))] for axis, matrix in self.axes.items()}
        return Diagnosis(best.get(Axis.RISK_SOURCE), best.get(Axis.FAILURE_MODE), best.get(Axis.HARM))

    def normalised(self, windows: Sequence[Features]) -> "Head":
        """The head in units of these windows, which need no labels."""
        normal = Normal.of(np.stack([w.states for w in windows]))
        center = float(np.mean([self.words.raw(w.words) for w in windows]))
        return replace(self, normal=normal, words=replace(self.words, center=center))
