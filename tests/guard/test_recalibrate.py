"""Fitting a guard to a runtime's own logs."""

import numpy as np
import pytest

from gelert.core.errors import InputError
from gelert.guard.recalibrate import Logs, recalibrate
from tests.guard.tiny import tiny_guard

GUARD = tiny_guard()


def features(n: int, shift: float = 0.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (np.random.default_rng(n).normal(size=(n, 2, 32)) + shift).astype(np.float32)


def test_an_alarm_budget_holds_on_the_logs_it_was_set_on() -> None:
    logs = Logs(features(99, 3.0), None, "mine")
    card, head = recalibrate(GUARD.card, GUARD.head, logs, alarm_budget=0.1)
    alarms = sum(card.scores.risk(head.score(f)) >= card.calibration.threshold for f in logs.features)
    assert alarms <= 10
    assert card.calibration.certified_rate is not None
    assert card.calibration.certified_rate <= 0.1 + 1e-9


def test_normalisation_undoes_a_shift_of_the_whole_runtime() -> None:
    plain, shifted = features(200), features(200) + 5
    _, here = recalibrate(GUARD.card, GUARD.head, Logs(plain, None), alarm_budget=0.1)
    _, there = recalibrate(GUARD.card, GUARD.head, Logs(shifted.astype(np.float32), None), alarm_budget=0.1)
    assert here.score(plain[0]) == pytest.approx(there.score(shifted[0].astype(np.float32)), abs=1e-3)


def test_few_logs_keep_the_cards_normalisation() -> None:
    _, head = recalibrate(GUARD.card, GUARD.head, Logs(features(9), None), alarm_budget=0.2)
    assert np.array_equal(head.center, GUARD.head.center)


def test_labels_set_temperature_and_threshold() -> None:
    found = features(60)
    unsafe = [GUARD.head.score(f) > 4 for f in found]
    card, _ = recalibrate(GUARD.card, GUARD.head, Logs(found, unsafe), normalise=False)
    right = [(card.scores.risk(GUARD.head.score(f)) >= 0.5) == u for f, u in zip(found, unsafe, strict=True)]
    assert card.calibration.labelled
    assert sum(right) >= 55


def test_a_budget_below_what_the_logs_certify_is_refused() -> None:
    with pytest.raises(InputError, match="smallest"):
        recalibrate(GUARD.card, GUARD.head, Logs(features(30), None), alarm_budget=0.01)


def test_logs_without_labels_need_a_budget() -> None:
    with pytest.raises(InputError, match="--alarm-budget"):
        recalibrate(GUARD.card, GUARD.head, Logs(features(30), None))
