"""One transformer block, run by hand: the same arithmetic for sessions, trunks and adapters.

The blocks are the library's own modules; only their order of calls is ours, so that attention can read a kept prefix
and a linear map can carry a low-rank adapter. Shapes: B rows, n tokens, H query heads, K key heads, d per head, W the
width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gelert.core.errors import ModelError


class Config(Protocol):
    """What is read of the library's configuration."""

    model_type: str
    num_hidden_layers: int
    num_key_value_heads: int
    hidden_size: int
    vocab_size: int
    max_position_embeddings: int
    rope_parameters: dict[str, object] | None


class Attention(Protocol):
    """What is read of the library's attention; ``q_norm``, ``k_norm`` and ``sliding_window`` may be there too."""

    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    o_proj: nn.Module
    head_dim: int
    scaling: float


class FeedForward(Protocol):
    """The gated map after attention."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module
    act_fn: nn.Module


class Block(Protocol):
    """One of the library's decoder layers; Gemma's have two norms more."""

    input_layernorm: nn.Module
    self_attn: Attention
    post_attention_layernorm: nn.Module
    mlp: FeedForward


class Body(Protocol):
    """The library's model without its head."""

    config: Config
    embed_tokens: nn.Module
    layers: Sequence[Block]
    norm: nn.Module
    rotary_emb: Callable[..., tuple[Tensor, Tensor]]


FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")
"""Values of ``config.model_type`` whose blocks have the arithmetic below."""

FIXED_ROPES = ("default", "linear", "llama3")
"""Rotary embeddings whose angles do not depend on how long the text turns out to be."""

Linear = Callable[[str, Callable[[Tensor], Tensor], Tensor], Tensor]
"""Apply the map called ``block.part`` (``"14.mlp.up_proj"``) to its input.

Besides the linear maps of a block there is ``"14.branch"``: beside the feed-forward part, from what that part reads to
what the block gives. Its frozen map is what the block gives; an adapter there is a branch of its own.
"""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries [B, H, m, d], keys and values [B, K, n, d] to mixed values [B, H, m, d]."""


@dataclass(frozen=True)
class Angles:
    """Rotary angles of n positions: cosines and sines, each [1, n, d]."""

    cos: Tensor
    sin: Tensor

    def at(self, rows: Tensor | None) -> "Angles":
        """The angles of some of the positions; all of them for ``None``."""
        return self if rows is None else Angles(self.cos[:, rows], self.sin[:, rows])

    def turn(self, heads: Tensor) -> Tensor:
        """Rotate [B, heads, n, d]; the first half of d is paired with the second."""
        low, high = heads.chunk(2, dim=-1)
        return heads * self.cos[:, None] + torch.cat((-high, low), dim=-1) * self.sin[:, None]


def plain(_name: str, module: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """A map without an adapter."""
    return module(inputs)


def check_family(config: Config) -> None:
    """Refuse a model whose blocks would be run wrongly.

    Raises:
        ModelError: the family, its rotary embedding or its attention is not one that is supported.
    """
    if config.model_type not in FAMILIES:
        raise ModelError(f"expected a model of one of the families {', '.join(FAMILIES)}, got {config.model_type!r}")
    ropes = config.rope_parameters or {}
    nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
    for kind in [rope.get("rope_type", "default") for rope in [ropes, *nested]]:
        if kind not in FIXED_ROPES:
            raise ModelError(f"expected a rotary embedding of {', '.join(FIXED_ROPES)}, got {kind!r}")
    if getattr(config, "use_bidirectional_attention", False):
        raise ModelError("expected a causal model, got one with bidirectional attention")


def kinds(config: Config) -> list[str]:
    """The kind of attention of each block: ``full_attention`` or ``sliding_attention``."""
    return list(getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers)


def window(layer: Block) -> int | None:
    """How many positions a token of this block sees, itself included; ``None`` for all before it."""
    return getattr(layer.self_attn, "sliding_window", None)


def angles(body: Body, like: Tensor, positions: Tensor) -> dict[str, Angles]:
    """Rotary angles for each kind of block at ``positions`` [n], in the type of ``like``."""
    where = positions[None]
    if body.config.model_type == "gemma3_text":
        return {kind: Angles(*body.rotary_emb(like, where, kind)) for kind in set(kinds(body.config))}
    turned = Angles(*body.rotary_emb(like, where))
    return dict.fromkeys(kinds(body.config), turned)


def keys_values(
    layer: Block, index: int, normed: Tensor, turned: Angles, linear: Linear = plain
) -> tuple[Tensor, Tensor]:
    """Rotated keys and values [B, K, n, d] of block ``index`` (counted from 0) from its normalised input."""
    attention = layer.self_attn
    keys = _heads(attention, linear(f"{index}.self_attn.k_proj", attention.k_proj, normed))
    values = _heads(attention, linear(f"{index}.self_attn.v_proj", attention.v_proj, normed))
    keys = getattr(attention, "k_norm", _same)(keys)
    return turned.turn(keys.transpose(1, 2)), values.transpose(1, 2)


def run_block(
    layer: Block,
    index: int,
    hidden: Tensor,
    turned: Angles,
    attend: Attend,
    *,
    rows: Tensor | None = None,
    linear: Linear = plain,
) -> Tensor:
    """The residual stream after block ``index`` (counted from 0), [B, m, W] from [B, n, W].

    With ``rows``, a vector of m positions, keys and values are made for all tokens, and everything else for those only.
    """
    normed = layer.input_layernorm(hidden)
    keys, values = keys_values(layer, index, normed, turned, linear)
    if rows is not None:
        hidden, normed = hidden[:, rows], normed[:, rows]
    attention = layer.self_attn
    queries = _heads(attention, linear(f"{index}.self_attn.q_proj", attention.q_proj, normed))
    queries = getattr(attention, "q_norm", _same)(queries)
    mixed = attend(turned.at(rows).turn(queries.transpose(1, 2)), keys, values)
    mixed = mixed.transpose(1, 2).flatten(2)
    hidden = _joined(layer, hidden, linear(f"{index}.self_attn.o_proj", attention.o_proj, mixed))
    return _feed_forward(layer, index, hidden, linear)


def _heads(attention: Attention, flat: Tensor) -> Tensor:
    return flat.unflatten(-1, (-1, attention.head_dim))


def _joined(layer: Block, hidden: Tensor, mixed: Tensor) -> Tensor:
    """Gemma normalises what attention gives before it joins the residual stream; the others do not."""
    return hidden + (layer.post_attention_layernorm(mixed) if _is_gemma(layer) else mixed)


def _feed_forward(layer: Block, index: int, hidden: Tensor, linear: Linear) -> Tensor:
    """Gemma normalises before and after with norms of their own."""
    before = getattr(layer, "pre_feedforward_layernorm", layer.post_attention_layernorm)
    normed = before(hidden)
    gate = linear(f"{index}.mlp.gate_proj", layer.mlp.gate_proj, normed)
    lifted = layer.mlp.act_fn(gate) * linear(f"{index}.mlp.up_proj", layer.mlp.up_proj, normed)
    lowered = linear(f"{index}.mlp.down_proj", layer.mlp.down_proj, lifted)
    joined = hidden + getattr(layer, "post_feedforward_layernorm", _same)(lowered)
    return linear(f"{index}.branch", lambda _read: joined, normed)


def _is_gemma(layer: Block) -> bool:
    return hasattr(layer, "pre_feedforward_layernorm")


def _same(value: Tensor) -> Tensor:
    return value
