"""Where a model's hidden states are read, and reading them: shared by the guard that judges and the forge that fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel, Reader
from gelert.core.trajectory import Trajectory
from gelert.guard.head import Features
from gelert.guard.prompts.render import render
from gelert.guard.windows import WindowedReader, WindowPlan

Floats = NDArray[np.float32]

SMALLEST_SPREAD = 1e-3
"""Added to standard deviations, so that a constant feature does not explode."""

Place = tuple[str, int]
"""A tail and a layer: the state after ``layer`` blocks at the last token of ``tail``, were it to come next."""


@dataclass(frozen=True)
class Readouts:
    """Where hidden states are read, as tokens: equal tails are read once."""

    tails: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]
    picks: tuple[tuple[int, int], ...]
    """Per readout, its place in ``tails`` and in ``layers``."""

    @classmethod
    def build(cls, places: Sequence[tuple[str, int]], model: LocalModel) -> "Readouts":
        """Readouts from (tail, layer) pairs."""
        tails = list(dict.fromkeys(tail for tail, _ in places))
        layers = sorted({layer for _, layer in places})
        picks = tuple((tails.index(tail), layers.index(layer)) for tail, layer in places)
        return cls(tuple(tuple(model.encode(t)) for t in tails), tuple(layers), picks)

    def features(self, reader: Reader) -> Features:
        """``[readouts, width]`` at the reader's place."""
        states = reader.states(self.tails, self.layers)
        return np.stack([states[tail, layer] for tail, layer in self.picks])


def read_whole(model: LocalModel, trajectory: Trajectory, readouts: Readouts, plan: WindowPlan) -> list[Features]:
    """The features at the end of each window of a whole trajectory, in order."""
    rendered = render(trajectory)
    windows = WindowedReader(model, rendered.header, plan)
    found: list[Features] = []
    for piece, step in zip(rendered.pieces, trajectory.steps, strict=True):
        found += [readouts.features(full) for full in windows.append(piece, step.role)]
    return [*found, readouts.features(windows.reader)]


@dataclass(frozen=True)
class Normal:
    """Center and spread of every feature, ``[readouts, width]``."""

    center: Floats
    spread: Floats

    @classmethod
    def of(cls, features: Floats) -> "Normal":
        """Of one set of runs, ``[n, readouts, width]``."""
        center = np.asarray(features.mean(axis=0), dtype=np.float32)
        return cls(center, np.asarray(features.std(axis=0), dtype=np.float32) + np.float32(SMALLEST_SPREAD))

    @classmethod
    def mean(cls, normals: Sequence["Normal"]) -> "Normal":
        """For a source never seen: the mean over the sources seen."""
        center = np.stack([n.center for n in normals]).mean(axis=0, dtype=np.float32)
        spread = np.stack([n.spread for n in normals]).mean(axis=0, dtype=np.float32)
        return cls(np.asarray(center), np.asarray(spread))

    def apply(self, features: Floats) -> Floats:
        """Standardised features."""
        return (features - self.center) / self.spread
