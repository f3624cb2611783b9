"""Losses and label scores from the residual stream, with the head on the positions that need it, a few at a time."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gelert.core.errors import InputError
from gelert.lm.model import LanguageModel

CHUNK_ROWS = 256
"""Positions whose logits are in memory at once: 256 x 49,152 in float32 are 48 MiB."""


def token_losses(model: LanguageModel, hidden: Tensor, targets: Tensor, *, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """Negative log-probability of each target, [N] in float32 or better; differentiable.

    Logits are made chunk by chunk and made again for the gradient, never [N, vocab] at once.

    Args:
        model: whose final norm and head are used.
        hidden: [N, width] residual stream after the last block, at the positions that predict.
        targets: [N] ids of the tokens to come.
        chunk_rows: positions at once.
    """

    def losses(rows: Tensor, wanted: Tensor) -> Tensor:
        return -model.log_probs(rows).gather(1, wanted[:, None])[:, 0]

    pieces = zip(hidden.split(chunk_rows), targets.split(chunk_rows), strict=True)
    return torch.cat([cast("Tensor", checkpoint(losses, *piece, use_reentrant=False)) for piece in pieces])


def label_log_probs(model: LanguageModel, hidden: Tensor, labels: Sequence[int]) -> Tensor:
    """Log-probability of each single-token label among the labels, [N, labels]; differentiable.

    Only the labels' rows of the head are multiplied: for two labels, the vocabulary costs nothing.

    Args:
        model: whose final norm and head are used.
        hidden: [N, width] residual stream after the last block, at the positions that predict.
        labels: ids of the labels, at least two different ones.

    Raises:
        InputError: there are fewer than two labels, or one comes twice.
    """
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise InputError(f"expected at least two different labels, got {list(labels)}")
    scores = model.logits(hidden, torch.tensor(list(labels), device=hidden.device))
    return scores.log_softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
