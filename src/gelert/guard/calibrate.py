"""From a score to a probability and an alarm: temperature, threshold, and what a calibration set can certify.

A score ``z`` is a log-odds. Temperature scaling (arXiv:1706.04599) makes it a probability; the threshold is chosen
either for accuracy on labelled runs, or for an alarm budget; and split-conformal ranks bound the false-alarm rate on
exchangeable new runs: with ``n`` safe runs, raising an alarm only above the ``k`` highest of them alarms on a new safe
run with probability at most ``k / (n + 1)`` plus ties, so no rate below ``1 / (n + 1)`` can be certified.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError

Scores = NDArray[np.float64]
"""Shape ``[n]``: log-odds of unsafe, before temperature."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores become risks and alarms: ``risk = sigmoid(scale * (z - shift))``, alarm at ``risk >= threshold``."""

    scale: float = 1.0
    """One over the temperature."""
    shift: float = 0.0
    """The score that is as likely safe as unsafe."""
    threshold: float = 0.5
    """Alarm at this risk or above."""
    runs: int = 0
    """How many runs it was made from."""
    labelled: bool = False
    alarm_budget: float | None = None
    """The share of runs (unlabelled) or of safe runs (labelled) that may alarm, if one was asked for."""
    certified_rate: float | None = None
    """Bound on the false-alarm rate on new runs like the safe ones calibrated on; None if nothing is certified."""

    def risk(self, score: float) -> float:
        """Probability of unsafe."""
        return sigmoid(self.scale * (score - self.shift))


def sigmoid(x: float) -> float:
    """Logistic function, without overflow; one rounded, rising operation after another, so it never falls."""
    return 1 / (1 + math.exp(-max(x, -700.0)))


def fit_labelled(scores: Sequence[float], unsafe: Sequence[bool], *, alarm_budget: float | None = None) -> Calibration:
    """Temperature and shift by maximum likelihood; threshold at one half, or where the budget of false alarms is kept.

    Raises:
        InputError: fewer than two runs of either kind, or a budget smaller than the safe runs can certify.
    """
    z, y = np.asarray(scores, dtype=np.float64), np.asarray(unsafe, dtype=np.float64)
    if min(y.sum(), (1 - y).sum()) < 2:
        raise InputError(
            f"expected at least 2 safe and 2 unsafe runs to calibrate on, got {int((1 - y).sum())} and {int(y.sum())};"
            " add labelled runs, or calibrate without labels and with an alarm budget"
        )
    scale, shift = _platt(z, y)
    fitted = Calibration(scale, shift, 0.5, len(z), labelled=True)
    if alarm_budget is None:
        return fitted
    cut = conformal_cut(z[y == 0], alarm_budget)
    return replace(
        fitted,
        threshold=_just_above(fitted.risk(cut)),
        alarm_budget=alarm_budget,
        certified_rate=certified_rate(z[y == 0], cut),
    )


def fit_unlabelled(scores: Sequence[float], *, alarm_budget: float, scale: float = 1.0) -> Calibration:
    """The threshold that alarms on at most this share of the given runs.

    If the runs are ordinary traffic (next to none unsafe), the share bounds the false-alarm rate on new runs like them.
    With a budget of one half the threshold is the median: right for a set known to be about half unsafe.

    Raises:
        InputError: a budget smaller than the runs can certify.
    """
    z = np.asarray(scores, dtype=np.float64)
    cut = conformal_cut(z, alarm_budget)
    shift = float(np.median(z)) if alarm_budget >= 0.5 else cut
    fitted = Calibration(scale, shift, runs=len(z), alarm_budget=alarm_budget)
    return replace(fitted, threshold=_just_above(fitted.risk(cut)), certified_rate=certified_rate(z, cut))


def conformal_cut(safe: Scores, rate: float) -> float:
    """The score that a new run exchangeable with ``safe`` exceeds with probability at most ``rate``.

    Raises:
        InputError: ``rate`` lies below ``1 / (n + 1)``, the smallest rate that ``n`` runs can certify.
    """
    smallest = smallest_rate(len(safe))
    if not smallest <= rate < 1:
        raise InputError(
            f"expected a false-alarm rate of at least {smallest:.4g} (the smallest that {len(safe)} runs can certify)"
            f" and below 1, got {rate:.4g}; give more runs or a larger rate"
        )
    rank = math.ceil((1 - rate) * (len(safe) + 1) - 1e-9)
    return float(np.sort(safe)[min(rank, len(safe)) - 1])


def smallest_rate(runs: int) -> float:
    """The smallest false-alarm rate that this many runs can certify."""
    return 1 / (runs + 1)


def certified_rate(safe: Scores, cut: float) -> float:
    """Bound on the chance that a new run scores above ``cut``: ``(1 + #{safe > cut}) / (n + 1)``."""
    return float(1 + (safe > cut).sum()) / (len(safe) + 1)


def _just_above(risk: float) -> float:
    return min(math.nextafter(risk, 2.0), math.nextafter(1.0, 0.0))


def _platt(z: Scores, y: Scores) -> tuple[float, float]:
    """Scale and shift by Newton's method on Platt's smoothed targets, with a weak pull towards scale 1."""
    positives, negatives = y.sum(), len(y) - y.sum()
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = float(z.std()) or 1.0
    x = np.stack([z / spread, np.ones_like(z)], axis=1)
    w = np.array([1.0, 0.0])
    pull = np.diag([1e-2, 1e-6])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - target) + pull @ (w - np.array([1.0, 0.0]))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + pull + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w = w - np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    scale = max(float(w[0]), 1e-3) / spread
    return scale, -float(w[1]) / scale
