"""Attention over a kept prefix and new tokens: two parts, each without a wide mask, joined by their normalisers.

With scores ``s`` over two disjoint sets of keys, softmax attention over the union is the mean of the two parts weighted
by ``exp(logsumexp(s))``. The prefix needs no mask, so the query heads that share a key head are laid end to end and
each key head is read once; only the new tokens need a causal mask.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's own name for it)


@dataclass(frozen=True)
class Part:
    """Attention over some of the keys: mixed values [B, H, n, d] and log-normalisers [B, H, n]."""

    mixed: Tensor
    logsumexp: Tensor


@dataclass(frozen=True)
class Fresh:
    """Where the new tokens stand: consecutive ones after a prefix, or branches that do not see each other."""

    positions: Tensor
    """[n] absolute positions."""
    branch: Tensor | None = None
    """[n] branch of each token; branch 0 is seen by all. ``None``: one run of consecutive tokens."""
    rows: Tensor | None = None
    """[m] the tokens that ask; ``None`` for all."""

    def own_mask(self, window: int | None) -> Tensor:
        """[m, n] which new tokens each asking token sees."""
        asks = self.positions if self.rows is None else self.positions[self.rows]
        seen = self.positions[None] <= asks[:, None]
        if self.branch is not None:
            own = self.branch if self.rows is None else self.branch[self.rows]
            seen &= (self.branch[None] == own[:, None]) | (self.branch[None] == 0)
        return seen if window is None else seen & (asks[:, None] - self.positions[None] < window)

    def old_mask(self, window: int, start: int, length: int) -> Tensor:
        """[m, length - start] which prefix tokens from ``start`` on each asking token sees."""
        asks = self.positions if self.rows is None else self.positions[self.rows]
        old = torch.arange(start, length, device=asks.device)
        return asks[:, None] - old[None] < window


def causal(queries: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
    """Attention of n consecutive tokens to themselves, [B, H, n, d]; differentiable."""
    count = queries.shape[2]
    if window is None or count <= window:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale, enable_gqa=True)
    mask = Fresh(torch.arange(count, device=queries.device)).own_mask(window)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=True)


def extend(
    queries: Tensor,
    fresh: tuple[Tensor, Tensor],
    old: tuple[Tensor, Tensor],
    where: Fresh,
    scale: float,
    window: int | None,
) -> Tensor:
    """Attention of new tokens to a prefix and to themselves, [B, H, m, d].

    Args:
        queries: [B, H, m, d], already rotated.
        fresh: keys and values of the new tokens, each [B, K, n, d].
        old: keys and values of the prefix, each [B, K, L, d].
        where: which new tokens ask, and whom they see.
        scale: what scores are multiplied by.
        window: how many positions a token sees, itself included; ``None`` for all.
    """
    length = old[0].shape[2]
    if window is not None and int(where.positions.max()) >= window:
        return _windowed(queries, fresh, old, where, scale, window)
    consecutive = where.branch is None and where.rows is None
    own = attend(queries, *fresh, scale, None if consecutive else where.own_mask(None), causal=consecutive)
    if length == 0:
        return own.mixed
    return _join(own, _folded(queries, *old, scale))


def _windowed(
    queries: Tensor, fresh: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor], where: Fresh, scale: float, window: int
) -> Tensor:
    """The few keys inside a sliding window, with a written-out mask."""
    length = old[0].shape[2]
    start = max(0, int(where.positions.min()) - window + 1)
    keys = torch.cat((old[0][:, :, start:], fresh[0]), dim=2)
    values = torch.cat((old[1][:, :, start:], fresh[1]), dim=2)
    mask = torch.cat((where.old_mask(window, min(start, length), length), where.own_mask(window)), dim=1)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=True)


def _folded(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Part:
    """Every query sees every key: the query heads of one key head are laid end to end."""
    rows, heads, count, size = queries.shape
    found = attend(queries.reshape(rows, keys.shape[1], -1, size), keys, values, scale, None, causal=False)
    return Part(found.mixed.reshape(rows, heads, count, size), found.logsumexp.reshape(rows, heads, count))


def attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None, *, causal: bool) -> Part:
    """Attention with its normaliser; torch's public call does not hand the normaliser out."""
    if queries.device.type != "cpu":
        return plain_part(queries, keys, values, scale, own_causal(queries) if causal else mask)
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=queries.dtype).masked_fill_(~mask, -torch.inf)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mixed, logsumexp = kernel(queries, keys, values, 0.0, causal, attn_mask=bias, scale=scale)
    return Part(mixed, logsumexp)


def own_causal(queries: Tensor) -> Tensor:
    """[n, n] lower triangle."""
    count = queries.shape[2]
    return torch.ones(count, count, dtype=torch.bool, device=queries.device).tril()


def plain_part(queries: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None) -> Part:
    """The same in plain arithmetic: the form for other devices, and what the kernel is tested against."""
    groups = queries.shape[1] // keys.shape[1]
    keys, values = (kept.repeat_interleave(groups, dim=1) for kept in (keys, values))
    scores = (queries @ keys.transpose(-1, -2)).to(torch.promote_types(queries.dtype, torch.float32)) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    mixed = scores.softmax(-1).to(values.dtype) @ values
    return Part(mixed, scores.logsumexp(-1))


def _join(first: Part, second: Part) -> Tensor:
    total = torch.logaddexp(first.logsumexp, second.logsumexp)
    share = [(part.logsumexp - total).exp()[..., None] for part in (first, second)]
    return (first.mixed * share[0] + second.mixed * share[1]).to(first.mixed.dtype)
