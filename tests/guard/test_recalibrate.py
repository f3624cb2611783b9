"""Fitting a guard to a runtime's own logs."""

import numpy as np
import pytest

from gelert.core.errors import InputError
from gelert.guard.head import Features, Head
from gelert.guard.recalibrate import Logs, recalibrate
from tests.guard.tiny import tiny_guard, window

GUARD = tiny_guard()


def windows(n: int, shift: float = 0.0) -> list[list[Features]]:
    """``n`` runs, every third of two windows."""
    return [[window(2 * i, shift=shift), window(2 * i + 1, shift=shift)][: 2 if i % 3 == 0 else 1] for i in range(n)]


def score(head: Head, run: list[Features]) -> float:
    return max(head.score(w) for w in run)


def test_an_alarm_budget_holds_on_the_logs_it_was_set_on() -> None:
    logs = Logs(windows(99, 3.0), None, "mine")
    card, head = recalibrate(GUARD.card, GUARD.head, logs, alarm_budget=0.1)
    alarms = sum(card.scores.risk(score(head, list(run))) >= card.calibration.threshold for run in logs.windows)
    assert alarms <= 10
    assert card.calibration.certified_rate is not None
    assert card.calibration.certified_rate <= 0.1 + 1e-9


def test_normalisation_undoes_a_shift_of_the_whole_runtime() -> None:
    plain, shifted = windows(200), windows(200, 5.0)
    _, here = recalibrate(GUARD.card, GUARD.head, Logs(plain, None), alarm_budget=0.1)
    _, there = recalibrate(GUARD.card, GUARD.head, Logs(shifted, None), alarm_budget=0.1)
    assert score(here, plain[0]) == pytest.approx(score(there, shifted[0]), abs=1e-3)


def test_few_logs_keep_the_cards_normalisation() -> None:
    _, head = recalibrate(GUARD.card, GUARD.head, Logs(windows(9), None), alarm_budget=0.2)
    assert np.array_equal(head.normal.center, GUARD.head.normal.center)
    assert head.words.center == GUARD.head.words.center


def test_labels_set_temperature_and_threshold() -> None:
    found = windows(60)
    unsafe = [score(GUARD.head, run) > 4 for run in found]
    card, _ = recalibrate(GUARD.card, GUARD.head, Logs(found, unsafe), normalise=False)
    right = [(card.scores.risk(score(GUARD.head, run)) >= 0.5) == u for run, u in zip(found, unsafe, strict=True)]
    assert card.calibration.labelled
    assert sum(right) >= 55


def test_a_budget_below_what_the_logs_certify_is_refused() -> None:
    with pytest.raises(InputError, match="smallest"):
        recalibrate(GUARD.card, GUARD.head, Logs(windows(30), None), alarm_budget=0.01)


def test_logs_without_labels_need_a_budget() -> None:
    with pytest.raises(InputError, match="--alarm-budget"):
        recalibrate(GUARD.card, GUARD.head, Logs(windows(30), None))
