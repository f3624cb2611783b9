"""How much each token's loss counts: plain likelihood and MemFT (arXiv:2605.30260), as pure functions.

Tensors end in a dimension ``t``: the supervised tokens of one document, in order. What is before it is free: ``[t]``
for one, ``[G, t]`` for G cells that each learn one text, ``[G, E, t]`` for cells that learn several. Weights carry no
gradient.
"""

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from gelert.core.errors import InputError

CRITICAL_LOSS = math.log(2)
"""Nats. Below it a token has p > 1/2, so no other token can be more probable (arXiv:2605.30260 sec. 4)."""

EMPTY = 1e-5
"""A total weight up to this counts as none."""

WhenEmpty = Literal["stop", "zero", "likelihood"]
"""What to do when no token has weight: end the training, take a step without gradient, or learn all tokens alike."""


@dataclass(frozen=True)
class Likelihood:
    """Every token counts 1: ordinary supervised fine-tuning."""


@dataclass(frozen=True)
class OnlyThreshold:
    """MemFT-OT: a token counts 1 while its loss exceeds the threshold, else 0 (arXiv:2605.30260 eq. 9)."""

    threshold: float = CRITICAL_LOSS
    """Nats."""
    when_empty: WhenEmpty = "stop"
    """The equation gives ``zero``; the published code does ``likelihood``."""

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise InputError(f"expected a threshold of 0 nats or more, got {self.threshold}")


@dataclass(frozen=True)
class SlidingWindow:
    """MemFT-SW inside a text: a soft threshold times a window that begins at the first error (arXiv:2605.30260 eq. 10).

    With a the first token that is not the most probable one: ``w_t = sigmoid(steepness (l_t - threshold)) s_t``, where
    ``s_t`` is 1 before a, ``exp(-(t - a) / decay)`` up to ``window * expansion`` tokens on, and small beyond.
    """

    threshold: float = CRITICAL_LOSS
    """Nats."""
    steepness: float = 10.0
    """Of the sigmoid, per nat."""
    window: float = 50.0
    """Tokens."""
    decay: float = 20.0
    """Tokens after which a weight has fallen to 1/e."""
    floor: float = 0.01
    """Of tokens beyond the window."""
    beyond: Literal["scaled", "constant"] = "scaled"
    """``scaled``: the soft threshold times ``floor``, as in the published code; ``constant``: ``floor`` (eq. 10)."""
    patience: int = 3
    """The window grows once the first error has stayed for this many steps."""
    growth: float = 0.5
    """Added to the expansion at each such step."""
    widest: float = 4.0
    """Largest expansion."""
    when_empty: WhenEmpty = "stop"

    def __post_init__(self) -> None:
        if min(self.window, self.decay, self.steepness) <= 0:
            raise InputError("expected a window, a decay and a steepness above 0")
        if not 0 <= self.floor <= 1 or self.patience < 1 or self.growth < 0 or self.widest < 1:
            raise InputError(
                "expected a floor from 0 to 1, a patience and a widest of 1 or more, a growth of 0 or more"
            )


@dataclass(frozen=True)
class Cramming:
    """Progressive cramming, a rival: learn a beginning of the text until all of it is right, then one more token.

    The beginning grows past tokens that are right already.
    """


Rule = Likelihood | OnlyThreshold | SlidingWindow | Cramming

METHODS: dict[str, Rule] = {
    "sft": Likelihood(),
    "memft-ot": OnlyThreshold(),
    "memft-sw": SlidingWindow(),
    "cramming": Cramming(),
}
"""The rules at their published constants, by the names that records and the command line use."""


@dataclass(frozen=True)
class Window:
    """What the sliding window remembers of each document from step to step; of shape ``[...]``, for ``torch.save``."""

    anchor: Tensor
    """First error at the last step, counted in supervised tokens; -1 for none or before the first step.

    For cramming the last token of the beginning that is learned.
    """
    stayed: Tensor
    """Steps for which it has not moved."""
    expansion: Tensor
    """Factor of the window's length."""

    @staticmethod
    def fresh(shape: tuple[int, ...] = (), device: torch.device | str = "cpu") -> "Window":
        """Before the first step."""
        return Window(
            torch.full(shape, -1, device=device),
            torch.zeros(shape, dtype=torch.long, device=device),
            torch.ones(shape, dtype=torch.float64, device=device),
        )


def weights(
    rule: Rule, losses: Tensor, right: Tensor, window: Window, *, counted: Tensor | None = None
) -> tuple[Tensor, Window]:
    """Weight of each token ``[..., t]``, and what to hand in at the next step.

    Args:
        rule: how tokens are weighted.
        losses: ``[..., t]`` negative log-likelihood, nats.
        right: ``[..., t]`` whether the token is the most probable one.
        window: ``Window.fresh(losses.shape[:-1])`` at the first step. Likelihood and the threshold leave it.
        counted: ``[..., t]`` false where shorter documents are padded; all true by default.
    """
    losses = losses.detach()
    counted = torch.ones_like(right) if counted is None else counted
    match rule:
        case Likelihood():
            found = torch.ones_like(losses)
        case OnlyThreshold(threshold):
            found = (losses > threshold).to(losses)
        case SlidingWindow():
            anchor = _first(~right & counted)
            window = _moved(rule, anchor, window)
            found = _slid(rule, losses, window)
        case Cramming():
            reached, found = _crammed(right | ~counted, window.anchor)
            window = Window(reached, window.stayed, window.expansion)
        case _:
            assert_never(rule)
    return torch.where(counted, found.to(losses), 0.0), window


def settled(rule: Rule, found: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[..., N]`` after the rule's answer to having none, and whether to end the training ``[...]``.

    The last dimension holds all tokens that share one step: of one document or of several.
    """
    empty = found.sum(-1) <= EMPTY
    policy: WhenEmpty = "likelihood" if isinstance(rule, Likelihood | Cramming) else rule.when_empty
    rest = counted.to(found) if policy == "likelihood" else torch.zeros_like(found)
    return torch.where(empty[..., None], rest, found), empty & (policy == "stop")


def weighted_mean(losses: Tensor, found: Tensor) -> Tensor:
    """``sum_t w_t l_t / sum_t w_t`` over the last dimension, 0 where there is no weight (arXiv:2605.30260 eq. 8)."""
    total = found.sum(-1)
    return (found * losses).sum(-1) / torch.where(total > 0, total, 1.0)


def _first(flags: Tensor) -> Tensor:
    """Index of the first true flag ``[...]``, -1 where there is none."""
    return torch.where(flags.any(-1), flags.to(torch.uint8).argmax(-1), -1)


def _moved(rule: SlidingWindow, anchor: Tensor, before: Window) -> Window:
    """The window after a step whose first error is ``anchor``."""
    stayed = torch.where((anchor == before.anchor) & (anchor >= 0), before.stayed + 1, 0)
    grown = (before.expansion + rule.growth).clamp_max(rule.widest)
    return Window(anchor, stayed, torch.where(stayed >= rule.patience, grown, 1.0))


def _slid(rule: SlidingWindow, losses: Tensor, window: Window) -> Tensor:
    ahead = torch.arange(losses.shape[-1], device=losses.device) - window.anchor[..., None]
    soft = torch.sigmoid(rule.steepness * (losses - rule.threshold))
    inside = soft * torch.exp(-ahead.clamp_min(0).to(losses) / rule.decay)
    outside = soft * rule.floor if rule.beyond == "scaled" else torch.full_like(losses, rule.floor)
    slid = torch.where(ahead < rule.window * window.expansion[..., None], inside, outside)
    return torch.where(window.anchor[..., None] < 0, soft, slid)


def _crammed(right: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
    """The last token of the beginning to learn ``[...]``, and the weights ``[..., t]``."""
    last = right.shape[-1] - 1
    wrong = _first(~right)
    wrong = torch.where(wrong < 0, last, wrong)
    reached = torch.maximum(reached, wrong)  # while a learned token is wrong, the first error is before the border
    return reached, (torch.arange(last + 1, device=right.device) <= reached[..., None]).to(torch.float32)
