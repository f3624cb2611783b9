"""Calibration: probabilities that are right on average, and alarm rates that hold on new runs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.guard.calibrate import (
    Calibration,
    certified_rate,
    conformal_cut,
    fit_labelled,
    fit_unlabelled,
    sigmoid,
    smallest_rate,
)

SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=60)


@given(st.floats(-800, 800))
def test_the_logistic_function_is_bounded_and_symmetric(x: float) -> None:
    assert 0 <= sigmoid(x) <= 1
    assert math.isclose(sigmoid(x) + sigmoid(-x), 1)


def test_labelled_calibration_recovers_the_temperature() -> None:
    random = np.random.default_rng(0)
    z = random.normal(0, 4, 20_000)
    unsafe = random.random(20_000) < 1 / (1 + np.exp(-(z - 1.5) / 2.5))
    found = fit_labelled(list(z), [bool(u) for u in unsafe])
    assert found.scale == pytest.approx(1 / 2.5, rel=0.05)
    assert found.shift == pytest.approx(1.5, abs=0.15)


def test_a_separable_calibration_set_still_gives_a_finite_scale() -> None:
    found = fit_labelled([-3, -2, 2, 3], [False, False, True, True])
    assert 0 < found.scale < 100
    assert found.risk(3) > 0.5 > found.risk(-3)


@given(SCORES, st.floats(0.001, 0.999))
def test_at_most_the_budget_of_the_given_runs_alarms(scores: list[float], budget: float) -> None:
    if budget < smallest_rate(len(scores)):
        with pytest.raises(InputError, match="smallest"):
            fit_unlabelled(scores, alarm_budget=budget)
        return
    found = fit_unlabelled(scores, alarm_budget=budget)
    alarms = sum(found.risk(z) >= found.threshold for z in scores)
    assert alarms <= budget * (len(scores) + 1)


def test_the_conformal_bound_holds_on_fresh_runs() -> None:
    random = np.random.default_rng(1)
    rate, alarms, trials = 0.1, 0, 4000
    for _ in range(trials):
        seen, new = random.normal(size=39), random.normal()
        alarms += new > conformal_cut(seen, rate)
    assert alarms / trials <= rate + 3 * math.sqrt(rate * (1 - rate) / trials)


def test_ninety_nine_runs_certify_one_percent_and_no_less() -> None:
    safe = np.arange(99, dtype=np.float64)
    assert certified_rate(safe, conformal_cut(safe, 0.01)) == pytest.approx(0.01)
    with pytest.raises(InputError, match=r"0\.01"):
        conformal_cut(safe, 0.009)


def test_calibration_needs_both_kinds() -> None:
    with pytest.raises(InputError, match="at least 2 safe and 2 unsafe"):
        fit_labelled([1.0, 2.0, 3.0], [True, True, True])


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_higher_score_never_lowers_the_risk(a: float, b: float) -> None:
    low, high = sorted((a, b))
    fitted = Calibration(scale=0.7, shift=1.0)
    assert fitted.risk(low) <= fitted.risk(high)


@given(st.floats(-60, 60))
def test_neighbouring_scores_keep_their_order(score: float) -> None:
    assert sigmoid(score) <= sigmoid(math.nextafter(score, math.inf))
