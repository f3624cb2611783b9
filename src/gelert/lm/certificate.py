"""One teacher-forced pass proves what greedy decoding gives: a text is recalled if each token is the most probable one.

By induction: while all tokens before are right, decoding stands where the pass stands. A token with p > 1/2 is the most
probable one whatever the others are (arXiv:2605.30260 sec. 4).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from gelert.lm import blocks
from gelert.lm.bank import Bank
from gelert.lm.objective import Example, nll
from gelert.lm.trunk import Prefill, Trunk

BATCH_TOKENS = 4096
"""Tokens of one pass, padding included."""


@dataclass(frozen=True)
class Certificate:
    """What the pass found for the supervised tokens of one text, in order."""

    losses: tuple[float, ...]
    """Nats."""
    right: tuple[bool, ...]
    """Whether each is the most probable token after those before it."""

    @cached_property
    def probabilities(self) -> tuple[float, ...]:
        """Of each token."""
        return tuple(math.exp(-loss) for loss in self.losses)

    @property
    def loss(self) -> float:
        """Mean, nats a token."""
        return sum(self.losses) / len(self.losses)

    @property
    def first_failure(self) -> int | None:
        """The first token that greedy decoding gets wrong, counted from 0; ``None``: it gives the whole text."""
        return next((at for at, hit in enumerate(self.right) if not hit), None)

    @property
    def recalled(self) -> bool:
        """Greedy decoding gives the whole text."""
        return self.first_failure is None

    @property
    def accuracy(self) -> float:
        """Share of the tokens that greedy decoding gives before its first error."""
        failure = self.first_failure
        return 1.0 if failure is None else failure / len(self.right)

    @property
    def doubtful(self) -> int | None:
        """The first token with p up to 1/2, a lower bound on the first failure; ``None``: there is none."""
        return next((at for at, loss in enumerate(self.losses) if loss >= math.log(2)), None)

    @property
    def violations(self) -> int:
        """Tokens with p > 1/2 that are not the most probable ones: impossible but for rounding."""
        return sum(loss < math.log(2) and not hit for loss, hit in zip(self.losses, self.right, strict=True))


@torch.no_grad()
def certify(
    trunk: Trunk,
    examples: Sequence[Example],
    bank: Bank | None,
    adapters: Sequence[int],
    *,
    prefill: Prefill | None = None,
) -> list[Certificate]:
    """A certificate of each example.

    Args:
        trunk: the frozen model.
        examples: the texts; tokens with a weight above 0 are those to be recalled.
        bank: the adapters; ``None`` for the model alone.
        adapters: which adapter each example goes through.
        prefill: the texts' activations where they are at hand.
    """
    prefill = prefill or Prefill(trunk, [example.ids for example in examples])
    found: list[Certificate] = []
    for part in _batches(examples):
        chosen = [examples[number] for number in part]
        linear = blocks.plain if bank is None else bank.linear([adapters[number] for number in part])
        stream = trunk.upper(prefill.batch([example.ids for example in chosen]), linear=linear)
        scored = nll(trunk.model, stream, chosen)
        sizes = [sum(weight > 0 for weight in example.weights) for example in chosen]
        for losses, right in zip(scored.losses.split(sizes), scored.right.split(sizes), strict=True):
            found.append(Certificate(tuple(losses.tolist()), tuple(right.tolist())))
    return found


def _batches(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Numbers of consecutive examples that make one pass."""
    part: list[int] = []
    longest = 0
    for number, example in enumerate(examples):
        if part and max(longest, len(example.ids)) * (len(part) + 1) > BATCH_TOKENS:
            yield part
            part, longest = [], 0
        part.append(number)
        longest = max(longest, len(example.ids))
    if part:
        yield part
