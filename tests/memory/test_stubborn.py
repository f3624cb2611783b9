import numpy as np
import pytest
import torch

from gelert.core.errors import InputError
from gelert.lm.model import tiny
from gelert.lm.objective import Example
from gelert.memory.stubborn import geometry, judge, predictors
from tests.lm.plain import text


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_the_geometry_agrees_with_a_loop(family: str) -> None:
    model = tiny(family)  # pyright: ignore[reportArgumentType]
    found = geometry(model, [40, 7, 40])
    head = model.net.lm_head.weight.double() * model.net.model.norm.weight.double()
    rows = head - head.mean(0)
    for place, token in enumerate([40, 7, 40]):
        own = rows[token] / rows[token].norm()
        others = [float(own @ row) for at, row in enumerate(rows) if at != token]
        cosines = [float(own @ row / row.norm()) for at, row in enumerate(rows) if at != token]
        assert found.norm[place] == pytest.approx(float(rows[token].norm()), rel=1e-5)
        assert found.margin[place] == pytest.approx((float(own @ rows[token]) - max(others)) * 32**0.5, rel=1e-4)
        assert found.nearest[place] == pytest.approx(max(cosines), rel=1e-4)


def test_a_token_beside_its_double_has_no_margin() -> None:
    model = tiny("qwen")
    with torch.no_grad():
        model.net.lm_head.weight[50] = model.net.lm_head.weight[60]
    found = geometry(model, [50, 61])
    assert found.margin[0] == pytest.approx(0.0, abs=1e-4)
    assert found.nearest[0] == pytest.approx(1.0, abs=1e-5)
    assert found.margin[1] > found.margin[0]


def test_every_predictor_names_each_supervised_token() -> None:
    found = predictors(tiny(), Example(tuple(text(20)), (0,) * 5 + (1,) * 15))
    assert {len(values) for values in found.values()} == {15}


def test_the_guess_that_knows_comes_first_with_its_interval() -> None:
    failed = np.array([0.0, 0, 0, 0.8, 0, 0.8, 0, 0, 0, np.nan])
    order = np.arange(10.0)
    best, worst = judge({"knows": np.nan_to_num(failed), "does not": -np.nan_to_num(failed)}, failed)
    assert (best.name, best.auc, worst.auc) == ("knows", 1.0, 0.0)
    assert (best.failing, best.tokens) == (2, 9)
    (chance,) = judge({"order": order}, failed)
    assert chance.low <= chance.auc <= chance.high


def test_a_sweep_that_says_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="smaller ranks"):
        judge({}, np.zeros(4))
    with pytest.raises(InputError, match="larger ranks"):
        judge({}, np.ones(4))
