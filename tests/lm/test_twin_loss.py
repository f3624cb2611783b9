"""Twins are set apart: the loss and its gradient against forms written independently."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.lm.model import tiny
from gelert.lm.objective import Example, Margins, Twins, graded, nll, twin_loss
from gelert.lm.trunk import Trunk
from tests.lm.plain import log_probs, text

Form = Literal["logistic", "hinge"]
FORMS: list[Form] = ["logistic", "hinge"]
ROWS = st.lists(st.tuples(st.floats(-5, 5), st.booleans(), st.sampled_from(["", "a", "b"])), min_size=1, max_size=8)


def by_hand(values: list[float], unsafe: list[bool], twins: list[str], form: Form) -> tuple[float, list[float]]:
    """Loss and gradient, pair by pair in plain numbers."""
    apart = [
        (u, s)
        for u in range(len(values))
        for s in range(len(values))
        if unsafe[u] and not unsafe[s] and twins[u] == twins[s] != ""
    ]
    total, slopes = 0.0, [0.0] * len(values)
    for u, s in apart:
        d = values[u] - values[s]
        total += math.log1p(math.exp(-d)) if form == "logistic" else max(0.0, 1 - d)
        slope = -1 / (1 + math.exp(d)) if form == "logistic" else -float(d < 1)
        slopes[u] += slope / len(apart)
        slopes[s] -= slope / len(apart)
    return total / max(len(apart), 1), slopes


@pytest.mark.parametrize("form", FORMS)
@given(ROWS)
def test_loss_and_gradient_are_those_of_the_pairs_one_by_one(form: Form, rows: list[tuple[float, bool, str]]) -> None:
    values, unsafe, twins = ([row[n] for row in rows] for n in range(3))
    margins = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    found = twin_loss(Margins(margins, tuple(map(bool, unsafe))), [str(t) for t in twins], form)
    found.backward()
    loss, slopes = by_hand([float(v) for v in values], [bool(u) for u in unsafe], [str(t) for t in twins], form)
    assert float(found.detach()) == pytest.approx(loss, abs=1e-12)
    assert margins.grad is not None
    assert margins.grad.tolist() == pytest.approx(slopes, abs=1e-12)


def test_the_margin_is_the_log_odds_at_the_first_supervised_token() -> None:
    model = tiny()
    ids = [*text(6, 1), 11, *text(3, 2)]
    examples = [Example(tuple(ids), (0.0,) * 6 + (1.0,) * 4), Example((*ids[:5], 10), (0.0,) * 5 + (1.0,))]
    trunk = Trunk(model, 0)
    hidden = torch.nn.utils.rnn.pad_sequence([trunk.activations(one.ids) for one in examples], batch_first=True)
    stream = trunk.upper(hidden)
    found = graded((10, 11))(model, stream, examples)
    assert found.margins is not None
    assert found.margins.unsafe == (True, False)
    for value, one in zip(found.margins.values, examples, strict=True):
        scores = log_probs(model, one.ids)[one.supervised[0] - 1]
        assert float(value) == pytest.approx(float(scores[11] - scores[10]), abs=1e-10)
    torch.testing.assert_close(found.losses, nll(model, stream, examples).losses)


def test_a_row_that_begins_with_no_verdict_and_a_weight_of_nothing_are_refused() -> None:
    model = tiny()
    one = Example((5, 6, 7), (0.0, 1.0, 1.0))
    hidden = Trunk(model, 0).upper(model.embed(torch.tensor([one.ids])))
    with pytest.raises(InputError, match="one of the labels"):
        graded((10, 11))(model, hidden, [one])
    with pytest.raises(InputError, match="above 0"):
        Twins(weight=0.0)
