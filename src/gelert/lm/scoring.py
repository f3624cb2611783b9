"""Losses and label scores from the residual stream, with the head on the positions that need it, a few at a time."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from gelert.core.errors import InputError
from gelert.lm.model import LanguageModel

CHUNK_ROWS = 256
"""Positions whose logits are in memory at once: 256 x 49,152 in float32 are 48 MiB."""

KEPT_BYTES = 1 << 30
"""Probabilities kept for the gradient, at most; those of the positions beyond are made again."""


def token_scores(
    model: LanguageModel,
    hidden: Tensor,
    targets: Tensor,
    *,
    chunk_rows: int = CHUNK_ROWS,
    kept_bytes: int = KEPT_BYTES,
) -> tuple[Tensor, Tensor]:
    """Negative log-probability of each target [N], in float32 or better, and whether it is the most probable one [N].

    Logits are made chunk by chunk. The losses are differentiable; a position whose loss gets a gradient of zero costs
    nothing on the way back, so that masked tokens are free.

    Args:
        model: whose final norm and head are used.
        hidden: [N, width] residual stream after the last block, at the positions that predict.
        targets: [N] ids of the tokens to come.
        chunk_rows: positions at once.
        kept_bytes: memory for probabilities; with none, the head is run again where there is a gradient.
    """
    scored: Any = _Scores.apply(model.body.norm(hidden), targets, model, chunk_rows, kept_bytes)
    losses, right = cast("tuple[Tensor, Tensor]", scored)
    return losses, right


class _Scores(Function):
    """Cross-entropy with the head inside, and its gradient: softmax less one-hot, times the head."""

    @staticmethod
    def forward(  # torch declares it with any arguments and gives no type for the context
        ctx: Any,  # noqa: ANN401
        normed: Tensor,
        targets: Tensor,
        model: LanguageModel,
        chunk_rows: int,
        kept_bytes: int,
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(normed.dtype, torch.float32)
        room = kept_bytes // (model.vocab * normed.element_size()) if model.softcap is None else 0
        losses: list[Tensor] = []
        right: list[Tensor] = []
        kept: dict[int, Tensor] = {}
        pieces = zip(normed.split(chunk_rows), targets.split(chunk_rows), strict=True)
        for number, (rows, wanted) in enumerate(pieces):
            log_probs = model.scores(rows).log_softmax(-1, dtype=exact)
            losses.append(-log_probs.gather(1, wanted[:, None])[:, 0])
            right.append(log_probs.argmax(-1) == wanted)
            if ctx.needs_input_grad[0] and room >= len(rows):
                kept[number] = log_probs.exp_().to(normed.dtype)
                room -= len(rows)
        ctx.model, ctx.chunk_rows, ctx.kept = model, chunk_rows, kept
        ctx.save_for_backward(normed, targets)
        hits = torch.cat(right)
        ctx.mark_non_differentiable(hits)
        return torch.cat(losses), hits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        normed, targets = ctx.saved_tensors
        given, model = grads[0], cast("LanguageModel", ctx.model)
        found = torch.zeros_like(normed)
        for number, start in enumerate(range(0, len(normed), ctx.chunk_rows)):
            own = given[start : start + ctx.chunk_rows]
            rows = own.nonzero()[:, 0]
            if not len(rows):
                continue
            at = rows + start
            if number in ctx.kept:
                back = ctx.kept[number]
                back = back if len(rows) == len(back) else back[rows]
                slope = None
            else:
                scores = model.scores(normed[at])
                slope = None if model.softcap is None else 1 - (scores / model.softcap).square()
                back = scores.softmax(-1, dtype=own.dtype).to(normed.dtype)
            back[torch.arange(len(rows), device=rows.device), targets[at]] -= 1
            back *= own[rows, None].to(back)
            found[at] = (back if slope is None else back * slope) @ model.net.lm_head.weight
        ctx.kept = {}  # they were changed in place: a second pass makes them again
        return found, None, None, None, None


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
