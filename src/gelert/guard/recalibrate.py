"""Fits a guard to a runtime's own logs without training it: feature normalisation, temperature, threshold.

The ranking of a guard transfers better to a new kind of log than its threshold; the logs' own mean and spread, which
need no labels, repair most of that (docs/log.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gelert.core.errors import InputError
from gelert.guard.calibrate import Calibration, fit_labelled, fit_unlabelled
from gelert.guard.card import CalibrationSection, Card
from gelert.guard.head import Features, Head

FEWEST_TO_NORMALISE = 20
"""With fewer runs the normalisation stays as it is: mean and spread would be noise."""


@dataclass(frozen=True)
class Logs:
    """A runtime's logs, as the guard sees them."""

    windows: Sequence[Sequence[Features]]
    """The windows of each run, at least one."""
    unsafe: Sequence[bool] | None
    """None if the logs are not labelled."""
    source: str = ""
    """In words, for the card."""


def recalibrate(
    card: Card, head: Head, logs: Logs, *, alarm_budget: float | None = None, normalise: bool = True
) -> tuple[Card, Head]:
    """The guard, normalised to the logs and with an alarm threshold chosen on them.

    Raises:
        InputError: no logs, no labels and no budget, or a budget below what so many logs can certify.
    """
    if not logs.windows:
        raise InputError("expected at least one readable log to calibrate on, got none")
    if normalise and len(logs.windows) >= FEWEST_TO_NORMALISE:
        head = head.normalised([window for run in logs.windows for window in run])
    scores = [max(head.score(window) for window in run) for run in logs.windows]
    if logs.unsafe is not None:
        found = fit_labelled(scores, logs.unsafe, alarm_budget=alarm_budget)
    elif alarm_budget is None:
        raise InputError("expected --alarm-budget for logs without labels: the share of them that may raise an alarm")
    else:
        found = fit_unlabelled(scores, alarm_budget=alarm_budget, scale=card.calibration.scale)
    return card.model_copy(update={"calibration": section(found, logs.source)}), head


def section(found: Calibration, source: str) -> CalibrationSection:
    """A calibration as the card writes it."""
    return CalibrationSection(
        scale=found.scale,
        shift=found.shift,
        threshold=found.threshold,
        runs=found.runs,
        labelled=found.labelled,
        alarm_budget=found.alarm_budget,
        certified_rate=found.certified_rate,
        source=source,
    )
