"""The guard's head: linear maps on a frozen model's hidden states. numpy only; fitting is ``gelert.forge``'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import CardError
from gelert.core.taxonomy import Axis, Diagnosis

Features = NDArray[np.float32]
"""Shape ``[readouts, width]``: one hidden state a readout."""


@dataclass(frozen=True)
class Head:
    """``score = verdict . (features - center) / spread + bias``, a log-odds; one softmax an axis on the same input."""

    center: NDArray[np.float32]
    """``[readouts, width]``: mean of each feature on the runs the guard is normalised to."""
    spread: NDArray[np.float32]
    """``[readouts, width]``: their standard deviation."""
    verdict: NDArray[np.float32]
    """``[readouts, width]``."""
    bias: float = 0.0
    classes: Mapping[Axis, tuple[str, ...]] = field(default_factory=dict[Axis, tuple[str, ...]])
    axes: Mapping[Axis, NDArray[np.float32]] = field(default_factory=dict[Axis, NDArray[np.float32]])
    """``[classes, readouts * width + 1]`` an axis; the last column is the bias."""

    def __post_init__(self) -> None:
        shapes = {self.center.shape, self.spread.shape, self.verdict.shape}
        if len(shapes) != 1 or self.center.ndim != 2:
            raise CardError(f"expected center, spread and verdict of one shape [readouts, width], got {shapes}")
        for axis, matrix in self.axes.items():
            expected = (len(self.classes.get(axis, ())), self.center.size + 1)
            if matrix.shape != expected:
                raise CardError(f"expected weights of shape {expected} for axis {axis.value!r}, got {matrix.shape}")

    def normal(self, features: Features) -> NDArray[np.float32]:
        """Features in units of the runs the guard is normalised to, flattened."""
        return ((features - self.center) / self.spread).astype(np.float32).ravel()

    def score(self, features: Features) -> float:
        """Log-odds of unsafe, before calibration."""
        return float(self.normal(features) @ self.verdict.ravel()) + self.bias

    def diagnosis(self, features: Features) -> Diagnosis:
        """The likeliest leaf of each axis that has weights."""
        x = np.append(self.normal(features), np.float32(1))
        best = {axis: self.classes[axis][int(np.argmax(matrix @ x))] for axis, matrix in self.axes.items()}
        return Diagnosis(best.get(Axis.RISK_SOURCE), best.get(Axis.FAILURE_MODE), best.get(Axis.HARM))
