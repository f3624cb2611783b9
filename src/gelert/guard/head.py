"""The guard's head: maps of hidden states, counts of words and traits. numpy only; fitting is ``gelert.forge``'s."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import CardError
from gelert.core.taxonomy import Axis, Diagnosis
from gelert.guard.traits import TRAITS, Traits
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
    traits: Traits
    """Of the whole run, as it stood at the window's end."""


@dataclass(frozen=True)
class Normal:
    """Center and spread of every state feature ``[rows, width]``, or of every trait ``[TRAITS]``."""

    center: Floats
    spread: Floats

    @classmethod
    def of(cls, features: Floats) -> "Normal":
        """Of one set of windows, the first dimension."""
        center = np.asarray(features.mean(axis=0), dtype=np.float32)
        return cls(center, np.asarray(features.std(axis=0), dtype=np.float32) + np.float32(SMALLEST_SPREAD))

    @classmethod
    def unseen(cls, normals: Sequence["Normal"]) -> "Normal":
        """For a source never seen: centered between the sources seen, as wide as they are and lie apart."""
        centers, spreads = np.stack([n.center for n in normals]), np.stack([n.spread for n in normals])
        variance = (spreads**2).mean(axis=0, dtype=np.float32) + centers.var(axis=0, dtype=np.float32)
        return cls(np.asarray(centers.mean(axis=0, dtype=np.float32)), np.asarray(np.sqrt(variance)))

    def apply(self, features: Floats) -> Floats:
        """Standardised features, none farther out than ``LARGEST_DEVIATION``."""
        return np.clip((features - self.center) / self.spread, -LARGEST_DEVIATION, LARGEST_DEVIATION, dtype=np.float32)


@dataclass(frozen=True)
class TraitMap:
    """A function of the traits that is linear in random cosines of them, so that traits can count together.

    The cosines' inner products are near ``exp(-|x - y|^2 / TRAITS)`` (random Fourier features, arXiv:1407.5599 sec. 3).
    """

    normal: Normal
    """Of the runs the guard is normalised to."""
    frequencies: Floats
    """``[cosines, TRAITS]``."""
    phases: Floats
    """``[cosines]``."""
    weights: Floats
    """``[cosines]``."""

    def __post_init__(self) -> None:
        count = len(self.phases)
        got = [
            part.shape for part in (self.normal.center, self.normal.spread, self.frequencies, self.phases, self.weights)
        ]
        if got != [(TRAITS,), (TRAITS,), (count, TRAITS), (count,), (count,)]:
            raise CardError(f"expected {TRAITS} traits and weights for {count} cosines, got shapes {got}")

    def cosines(self, standard: Floats) -> Floats:
        """``[..., cosines]`` of standardised traits ``[..., TRAITS]``; of about unit length."""
        scale = np.sqrt(2 / len(self.phases), dtype=np.float32)
        return scale * np.cos(standard @ self.frequencies.T + self.phases, dtype=np.float32)

    def score(self, traits: Traits) -> Floats:
        """What the traits ``[..., TRAITS]`` add to the score."""
        return self.cosines(self.normal.apply(traits)) @ self.weights


@dataclass(frozen=True)
class Head:
    """``score = verdict . normal(states) + words(counts) + traits(traits) + bias``; a softmax an axis beside it."""

    normal: Normal
    """Of the runs the guard is normalised to."""
    verdict: Floats
    """``[rows, width]``."""
    words: WordWeights
    traits: TraitMap
    bias: float = 0.0
    classes: Mapping[Axis, tuple[str, ...]] = field(default_factory=dict[Axis, tuple[str, ...]])
    axes: Mapping[Axis, Floats] = field(default_factory=dict[Axis, Floats])
    """``[classes, rows * width + TRAITS + 1]`` an axis; the last column is the bias."""

    def __post_init__(self) -> None:
        shapes = {self.normal.center.shape, self.normal.spread.shape, self.verdict.shape}
        if len(shapes) != 1 or self.verdict.ndim != 2:
            raise CardError(f"expected center, spread and verdict of one shape [rows, width], got {shapes}")
        for axis, matrix in self.axes.items():
            expected = (len(self.classes.get(axis, ())), self.verdict.size + TRAITS + 1)
            if matrix.shape != expected:
                raise CardError(f"expected weights of shape {expected} for axis {axis.value!r}, got {matrix.shape}")

    def score(self, features: Features) -> float:
        """How unsafe, before calibration; ``bias`` for a window like the mean of those normalised to."""
        states = self.normal.apply(features.states)
        own = float(states.ravel() @ self.verdict.ravel()) + float(self.traits.score(features.traits))
        return own + self.words.score(features.words) + self.bias

    def diagnosis(self, features: Features) -> Diagnosis:
        """The likeliest leaf of each axis that has weights."""
        states, traits = self.normal.apply(features.states), self.traits.normal.apply(features.traits)
        x = np.concatenate([states.ravel(), traits, np.ones(1, np.float32)])
        best = {axis: self.classes[axis][int(np.argmax(matrix @ x))] for axis, matrix in self.axes.items()}
        return Diagnosis(best.get(Axis.RISK_SOURCE), best.get(Axis.FAILURE_MODE), best.get(Axis.HARM))

    def normalised(self, windows: Sequence[Features]) -> "Head":
        """The head in units of these windows, which need no labels."""
        normal = Normal.of(np.stack([w.states for w in windows]))
        traits = replace(self.traits, normal=Normal.of(np.stack([w.traits for w in windows])))
        center = float(np.mean([self.words.raw(w.words) for w in windows]))
        return replace(self, normal=normal, traits=traits, words=replace(self.words, center=center))
