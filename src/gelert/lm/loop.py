"""The one training loop: many adapters at once on one frozen trunk; it yields steps, callers print, save and stop.

Every adapter sees the same examples in the same order. Losses are summed over adapters, gradients are clipped adapter
by adapter and Adam works number by number, so each adapter is trained exactly as it would be alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.lm.bank import Bank
from gelert.lm.objective import Example, Objective, nll
from gelert.lm.trunk import Trunk


@dataclass(frozen=True)
class Config:
    """How to train."""

    steps: int = 200
    learning_rate: float = 1e-3
    warmup_steps: int = 10
    """The rate rises linearly over these, then falls as a cosine to a tenth."""
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    """Largest gradient norm of one adapter."""
    examples_per_step: int = 4
    seed: int = 0
    """Of the order of the examples."""


@dataclass(frozen=True)
class Step:
    """What one step did."""

    number: int
    """Counted from 1."""
    losses: tuple[float, ...]
    """Mean loss of each adapter before the step."""
    learning_rate: float
    gradient_norms: tuple[float, ...]
    """Of each adapter, before clipping."""


class Training:
    """Training of all adapters of ``bank``, in place.

    Args:
        trunk: the frozen model and where its trunk ends; adapters must be above.
        bank: the adapters.
        examples: what to learn.
        objective: the loss of each row.
        config: how.

    Raises:
        InputError: there are no examples, or an adapter lies inside the trunk.
    """

    def __init__(
        self, trunk: Trunk, bank: Bank, examples: Sequence[Example], config: Config, *, objective: Objective = nll
    ) -> None:
        if not examples:
            raise InputError("expected at least one example, got none")
        if below := [name for name in bank.pairs if int(name.split(".")[0]) < trunk.layer]:
            raise InputError(f"expected adapters above the trunk's {trunk.layer} blocks, got {below[0]!r}")
        self.trunk, self.bank, self.examples, self.config = trunk, bank, examples, config
        self.objective = objective
        self.done = 0
        self._adam = torch.optim.AdamW(bank.parameters(), lr=0.0, weight_decay=config.weight_decay)

    def run(self) -> Iterator[Step]:
        """Take the steps that are left, yielding after each."""
        while self.done < self.config.steps:
            yield self._step()

    def state(self) -> dict[str, object]:
        """All that ``restore`` needs to go on exactly, for ``torch.save``."""
        return {"done": self.done, "factors": self.bank.parameters(), "adam": self._adam.state_dict()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from ``state``, taken from a training of the same shape."""
        done, factors, adam = state["done"], state["factors"], state["adam"]
        assert isinstance(done, int)
        assert isinstance(factors, list)
        assert isinstance(adam, dict)
        for own, kept in zip(self.bank.parameters(), factors, strict=True):
            own.copy_(kept)
        self._adam.load_state_dict(adam)
        self.done = done

    def _step(self) -> Step:
        chosen = [self.examples[number] for number in self._order()]
        count = len(self.bank.specs)
        hidden = _padded([self.trunk.activations(example.ids) for example in chosen]).repeat(count, 1, 1)
        adapters = [number for number in range(count) for _ in chosen]
        rows = self.objective(
            self.trunk.model, self.trunk.upper(hidden, linear=self.bank.linear(adapters)), chosen * count
        )
        losses = rows.view(count, len(chosen)).mean(1)
        self._adam.zero_grad()
        losses.sum().backward()
        norms = _clip(self.bank.parameters(), self.config.clip_norm)
        rate = learning_rate(self.config, self.done)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self.done += 1
        return Step(self.done, tuple(losses.tolist()), rate, tuple(norms.tolist()))

    def _order(self) -> list[int]:
        """Which examples the next step takes: a function of the seed and the step alone."""
        first = self.done * self.config.examples_per_step
        return [self._shuffled(place) for place in range(first, first + self.config.examples_per_step)]

    def _shuffled(self, place: int) -> int:
        epoch, at = divmod(place, len(self.examples))
        numbers = list(range(len(self.examples)))
        stream(self.config.seed, "order", epoch).shuffle(numbers)
        return numbers[at]


def learning_rate(config: Config, done: int) -> float:
    """The rate of the step after ``done`` steps: linear warm-up, then a cosine down to a tenth."""
    if done < config.warmup_steps:
        return config.learning_rate * (done + 1) / config.warmup_steps
    share = (done - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def _padded(texts: Sequence[Tensor]) -> Tensor:
    """[B, n, width] from texts [n_i, width]; zeros at the end, where no real token looks."""
    return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)


def _clip(factors: Sequence[Tensor], limit: float) -> Tensor:
    """Scale each adapter's gradient to at most ``limit``; gives the norms [G] before."""
    gradients = [factor.grad for factor in factors if factor.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    shrink = limit / norms.clamp_min(limit)
    for gradient in gradients:
        gradient.mul_(shrink.to(gradient)[:, None, None])
    return norms
