"""Weights of tokens against forms written with loops, and the rules every weighting keeps."""

import io
import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gelert.core.errors import InputError
from gelert.lm.weights import (
    CRITICAL_LOSS,
    METHODS,
    Cramming,
    Likelihood,
    OnlyThreshold,
    Rule,
    SlidingWindow,
    Window,
    settled,
    weighted_mean,
    weights,
)

LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=40)
HARD = torch.tensor([0.01, 2.0, 0.1, 3.0], dtype=torch.float64)
RIGHT = torch.tensor([True, False, True, False])


def one(rule: Rule, losses: list[float], right: list[bool], window: Window | None = None) -> tuple[Tensor, Window]:
    return weights(rule, torch.tensor(losses, dtype=torch.float64), torch.tensor(right), window or Window.fresh())


def slid(rule: SlidingWindow, losses: list[float], anchor: int | None, expansion: float) -> list[float]:
    """The sliding window's weights, token by token."""
    found: list[float] = []
    for at, loss in enumerate(losses):
        soft = 1 / (1 + math.exp(-rule.steepness * (loss - rule.threshold)))
        if anchor is None or at < anchor:
            found.append(soft)
        elif at - anchor < rule.window * expansion:
            found.append(soft * math.exp(-(at - anchor) / rule.decay))
        else:
            found.append(soft * rule.floor if rule.beyond == "scaled" else rule.floor)
    return found


@given(LOSSES)
def test_likelihood_counts_all_tokens_alike(losses: list[float]) -> None:
    found, _ = one(Likelihood(), losses, [True] * len(losses))
    assert float(weighted_mean(torch.tensor(losses, dtype=torch.float64), found)) == pytest.approx(
        sum(losses) / len(losses)
    )


@given(LOSSES, st.floats(0, 5))
def test_only_the_threshold_decides(losses: list[float], threshold: float) -> None:
    found, _ = one(OnlyThreshold(threshold), losses, [True] * len(losses))
    assert found.tolist() == [1.0 if loss > threshold else 0.0 for loss in losses]


@given(LOSSES, st.data(), st.sampled_from(["scaled", "constant"]))
def test_the_window_agrees_with_a_loop(losses: list[float], data: st.DataObject, beyond: str) -> None:
    right = data.draw(st.lists(st.booleans(), min_size=len(losses), max_size=len(losses)))
    rule = SlidingWindow(window=6, decay=4, beyond="scaled" if beyond == "scaled" else "constant")
    anchor = next((at for at, hit in enumerate(right) if not hit), None)
    found, window = one(rule, losses, right)
    assert found.tolist() == pytest.approx(slid(rule, losses, anchor, 1.0), rel=1e-9, abs=1e-15)
    assert int(window.anchor) == (-1 if anchor is None else anchor)


def test_the_window_grows_while_the_first_error_stays_and_shrinks_when_it_moves() -> None:
    rule, window = SlidingWindow(patience=2, growth=1.5, widest=3.0), Window.fresh()
    seen: list[float] = []
    for first in [1, 1, 1, 1, 1, 2, 2, 2, 2]:
        _, window = one(rule, [1.0] * 4, [at != first for at in range(4)], window)
        seen.append(float(window.expansion))
    assert seen == [1.0, 1.0, 2.5, 3.0, 3.0, 1.0, 1.0, 2.5, 3.0]


def test_cramming_learns_a_beginning_that_grows_past_what_is_right() -> None:
    window = Window.fresh()
    for right, learned in [("xxxx", 1), ("xoxx", 1), ("ooxx", 3), ("oxox", 3), ("oooo", 4), ("xooo", 4)]:
        found, window = one(Cramming(), [1.0] * 4, [mark == "o" for mark in right], window)
        assert found.tolist() == [1.0] * learned + [0.0] * (4 - learned)


def test_a_text_without_errors_never_widens_the_window() -> None:
    found, window = one(SlidingWindow(), [0.1, 3.0], [True, True])
    for _ in range(8):
        found, window = one(SlidingWindow(), [0.1, 3.0], [True, True], window)
    assert (int(window.stayed), float(window.expansion)) == (0, 1.0)
    assert found.tolist() == pytest.approx(slid(SlidingWindow(), [0.1, 3.0], None, 1.0))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_cells_together_weigh_as_each_alone(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(3, 2, 7, generator=generator, dtype=torch.float64) * 3
    right = torch.rand(3, 2, 7, generator=generator) > 0.4
    window, alone = Window.fresh((3, 2)), [Window.fresh() for _ in range(6)]
    for _ in range(5):
        found, window = weights(METHODS[name], losses, right, window)
        for at in range(6):
            row, alone[at] = weights(METHODS[name], losses.view(6, 7)[at], right.view(6, 7)[at], alone[at])
            torch.testing.assert_close(found.view(6, 7)[at], row, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_padding_has_no_weight_and_moves_nothing(name: str) -> None:
    padded, wrong = torch.cat([HARD, torch.full((3,), 9.0)]), torch.cat([RIGHT, torch.zeros(3, dtype=torch.bool)])
    counted = torch.arange(7) < 4
    found, window = weights(METHODS[name], padded, wrong, Window.fresh(), counted=counted)
    plain, same = weights(METHODS[name], HARD, RIGHT, Window.fresh())
    assert found.tolist() == [*plain.tolist(), 0.0, 0.0, 0.0]
    assert asdict(window) == asdict(same)


def test_weights_carry_no_gradient() -> None:
    losses = HARD.clone().requires_grad_()
    for rule in METHODS.values():
        assert not weights(rule, losses, RIGHT, Window.fresh())[0].requires_grad


def test_the_gradient_of_the_mean_is_the_share_of_each_weight() -> None:
    losses = HARD.clone().requires_grad_()
    found, _ = weights(OnlyThreshold(), losses, RIGHT, Window.fresh())
    weighted_mean(losses, found).backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [0.0, 0.5, 0.0, 0.5]


def test_without_a_hard_token_the_rule_says_what_to_do() -> None:
    counted = torch.tensor([True, True, False])
    easy = torch.zeros(3)
    for when, weight, stop in [("stop", 0.0, True), ("zero", 0.0, False), ("likelihood", 1.0, False)]:
        rule = replace(OnlyThreshold(), when_empty=when)  # pyright: ignore[reportArgumentType]  # the three policies
        found, ends = settled(rule, easy, counted)
        assert (found.tolist(), bool(ends)) == ([weight, weight, 0.0], stop)
    assert float(weighted_mean(HARD[:3], easy)) == 0.0


def test_only_the_cell_that_is_done_stops() -> None:
    losses = torch.tensor([[0.1, 0.2], [0.1, 0.9]])
    found, _ = weights(OnlyThreshold(), losses, losses < 1, Window.fresh((2,)))
    settled_weights, stop = settled(OnlyThreshold(), found, torch.ones(2, 2, dtype=torch.bool))
    assert stop.tolist() == [True, False]
    assert settled_weights.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_a_window_survives_the_disk() -> None:
    _, window = one(SlidingWindow(), [1.0, 2.0], [True, False])
    kept = io.BytesIO()
    torch.save(asdict(window), kept)
    kept.seek(0)
    assert asdict(Window(**torch.load(kept, weights_only=True))) == asdict(window)


def test_the_critical_loss_is_that_of_a_coin() -> None:
    assert math.exp(-CRITICAL_LOSS) == pytest.approx(0.5)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="threshold of 0 nats or more"):
        OnlyThreshold(-1.0)
    with pytest.raises(InputError, match="above 0"):
        SlidingWindow(decay=0)
    with pytest.raises(InputError, match="floor from 0 to 1"):
        SlidingWindow(floor=2)
