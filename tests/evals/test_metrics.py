"""Figures against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.evals.metrics import (
    FIGURES,
    Outcomes,
    accuracy,
    auc,
    calibration_error,
    f1,
    interval,
    macro_f1,
    outcomes,
    precision,
    recall,
    recall_at,
    unreadable_rate,
)

ROWS = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1)), min_size=2, max_size=60)


def of(rows: list[tuple[bool, bool, float]]) -> Outcomes:
    return outcomes(
        [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [str(i) for i in range(len(rows))]
    )


@given(ROWS)
def test_binary_figures_agree_with_scikit_learn(rows: list[tuple[bool, bool, float]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    o = of(rows)
    assert accuracy(o) == pytest.approx(metrics.accuracy_score(o.unsafe, o.alarm))
    assert precision(o) == pytest.approx(metrics.precision_score(o.unsafe, o.alarm, zero_division=0))
    assert recall(o) == pytest.approx(metrics.recall_score(o.unsafe, o.alarm, zero_division=0))
    assert f1(o) == pytest.approx(metrics.f1_score(o.unsafe, o.alarm, zero_division=0))
    if 0 < o.unsafe.sum() < len(rows):
        assert auc(o) == pytest.approx(metrics.roc_auc_score(o.unsafe, o.risk))


@given(ROWS)
def test_every_figure_lies_between_zero_and_one(rows: list[tuple[bool, bool, float]]) -> None:
    for figure in FIGURES.values():
        assert 0 <= figure(of(rows)) <= 1


def test_an_unreadable_verdict_is_always_wrong() -> None:
    o = outcomes([True, False], [None, None], [0.9, 0.1], ["a", "b"])
    assert accuracy(o) == 0
    assert unreadable_rate(o) == 1


def test_recall_at_five_percent_allows_one_false_alarm_in_twenty() -> None:
    safe = [(False, False, i / 100) for i in range(20)]
    rows = [*safe, (True, True, 0.185), (True, True, 0.5), (True, True, 0.17)]
    assert recall_at(0.05)(of(rows)) == pytest.approx(2 / 3)
    assert recall_at(0.01)(of(rows)) == pytest.approx(1 / 3)


def test_a_perfectly_calibrated_guard_has_no_calibration_error() -> None:
    rows = [(i % 4 == 0, False, 0.25) for i in range(400)]
    assert calibration_error(of(rows), bins=1) == pytest.approx(0)


def test_intervals_draw_whole_groups() -> None:
    truth = [True] * 50 + [False] * 50
    alone = interval(accuracy, outcomes(truth, [True] * 100, [0.5] * 100, [str(i) for i in range(100)]))
    grouped = interval(accuracy, outcomes(truth, [True] * 100, [0.5] * 100, [str(i // 10) for i in range(100)]))
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_intervals_are_reproducible() -> None:
    o = outcomes([True, False, True], [True, True, False], [0.9, 0.8, 0.1], ["a", "b", "c"])
    assert interval(auc, o, seed=3) == interval(auc, o, seed=3)


def test_macro_f1_weighs_classes_equally() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth, said = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    assert macro_f1(truth, said) == pytest.approx(metrics.f1_score(truth, said, average="macro"))
    assert macro_f1(["a"], [None]) == 0
    assert np.isfinite(macro_f1([], []))
