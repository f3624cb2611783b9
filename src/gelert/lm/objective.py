"""What training makes small, for each row of a batch: pure functions of the residual stream after the last block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.lm.model import LanguageModel
from gelert.lm.scoring import label_log_probs, token_losses


@dataclass(frozen=True)
class Example:
    """A text to learn from."""

    ids: tuple[int, ...]
    """All its tokens."""
    weights: tuple[float, ...]
    """For each token how much predicting it counts; the first cannot be predicted and must be 0."""

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.ids) or not any(self.weights) or self.weights[0] or min(self.weights) < 0:
            raise InputError("expected a weight of 0 or more for each token, 0 for the first and some above 0")


Objective = Callable[[LanguageModel, Tensor, Sequence[Example]], Tensor]
"""Loss [B] of each row, from the residual stream [B, n, width] and the examples that the rows are."""


def nll(model: LanguageModel, hidden: Tensor, examples: Sequence[Example]) -> Tensor:
    """Weighted mean negative log-likelihood of the supervised tokens: ``sum_t w_t l_t / sum_t w_t``."""
    places = [(row, at) for row, example in enumerate(examples) for at, weight in enumerate(example.weights) if weight]
    rows, ats = torch.tensor(places, device=hidden.device).unbind(1)
    targets = torch.tensor([examples[row].ids[at] for row, at in places], device=hidden.device)
    losses = token_losses(model, hidden[rows, ats - 1], targets)
    weights = torch.tensor([examples[row].weights[at] for row, at in places], device=hidden.device).to(losses)
    empty = torch.zeros(len(examples), dtype=losses.dtype, device=hidden.device)
    return empty.index_add(0, rows, weights * losses) / empty.index_add(0, rows, weights)


def verdict(labels: Sequence[int]) -> Objective:
    """Negative log-likelihood of the right label among ``labels``, at the one token that is supervised.

    With two labels this is the logistic loss ``log(1 + exp(-m))`` of the margin m between right and wrong.
    """

    def losses(model: LanguageModel, hidden: Tensor, examples: Sequence[Example]) -> Tensor:
        ats = [max(at for at, weight in enumerate(example.weights) if weight) for example in examples]
        found = [example.ids[at] for example, at in zip(examples, ats, strict=True)]
        if unknown := set(found) - set(labels):
            raise InputError(f"expected examples that end in one of the labels {list(labels)}, got {sorted(unknown)}")
        rows = torch.arange(len(examples), device=hidden.device)
        scores = label_log_probs(model, hidden[rows, torch.tensor(ats, device=hidden.device) - 1], labels)
        return -scores[rows, torch.tensor([list(labels).index(token) for token in found], device=hidden.device)]

    return losses
