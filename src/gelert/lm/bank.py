"""Many low-rank adapters trained and run in one batch: each row of the batch goes through its own.

An adapter adds ``(alpha / r) * B A x`` to a frozen linear map (LoRA, arXiv 2106.09685 sec. 4.1), with A [r, in] and
B [out, r]. Adapters of different rank are padded with zeros to the largest: a padded row of A and column of B are both
zero, so both gradients are zero and stay so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed
from gelert.lm import blocks
from gelert.lm.model import LanguageModel

Drop = Callable[[str, Tensor], Tensor]
"""Set some of what an adapter adds [B, n, out] to zero, given its map's name: dropout."""

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the linear maps in a block that can carry an adapter."""


@dataclass(frozen=True)
class Spec:
    """One adapter before training."""

    rank: int
    alpha: float = 16.0
    """The update is scaled by ``alpha / rank``."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"expected a rank of at least 1, got {self.rank}")


@dataclass(frozen=True)
class Pair:
    """The two factors of one linear map for all G adapters: A [G, r, in] and B [G, out, r]."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True)
class Bank:
    """G adapters on the same linear maps, or on some of them: where one has none, its factors are zero."""

    specs: tuple[Spec, ...]
    pairs: Mapping[str, Pair]
    """By the map's name, for example ``"14.mlp.up_proj"``."""

    def parameters(self) -> list[Tensor]:
        """All factors, each with the adapter as its first dimension."""
        return [factor for pair in self.pairs.values() for factor in (pair.down, pair.up)]

    def linear(self, adapters: Sequence[int], drop: Drop | None = None) -> blocks.Linear:
        """A way to apply linear maps in which row b of the batch goes through adapter ``adapters[b]``."""
        rows = torch.tensor(list(adapters))
        scales = [self.specs[number].alpha / self.specs[number].rank for number in adapters]
        scale = torch.tensor(scales, dtype=torch.float64)[:, None, None]

        def apply(name: str, module: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
            plain = module(inputs)
            pair = self.pairs.get(name)
            if pair is None:
                return plain
            down = pair.down[rows].to(inputs.dtype)
            exact = torch.promote_types(pair.up.dtype, inputs.dtype)
            up = (pair.up[rows].to(exact) * scale.to(inputs.device, exact)).to(inputs.dtype)
            added = inputs @ down.mT @ up.mT
            return plain + (added if drop is None else drop(name, added))

        return apply


def new(
    model: LanguageModel,
    specs: Sequence[Spec],
    *,
    blocks_from: int,
    blocks_to: int | None = None,
    targets: Sequence[str] = TARGETS,
) -> Bank:
    """Adapters that do nothing yet: A uniform as in PEFT, B zero.

    Each adapter's numbers come from its own seed, so that it starts the same alone and among others.

    Args:
        model: the frozen model; adapters are float32 at least, whatever the type of its weights.
        specs: one for each adapter.
        blocks_from: the first block with adapters, counted from 0.
        blocks_to: the first block above it without; by default all above have them too.
        targets: which maps of each block.

    Raises:
        InputError: a target or a block is not there, or there is no adapter.
    """
    if not specs:
        raise InputError("expected at least one adapter, got none")
    if unknown := sorted(set(targets) - set(TARGETS)):
        raise InputError(f"expected targets among {', '.join(TARGETS)}, got {', '.join(unknown)}")
    end = model.layers if blocks_to is None else blocks_to
    if not 0 <= blocks_from < end <= model.layers:
        raise InputError(f"expected blocks from 0 up to {model.layers}, got {blocks_from} to {end}")
    names = [name for index in range(blocks_from, end) for name in maps(index, targets)]
    return Bank(tuple(specs), {name: _fresh(model, name, specs) for name in names})


def branches(model: LanguageModel, specs: Sequence[Spec], block: int, *, dtype: torch.dtype = torch.float32) -> Bank:
    """One branch each beside the feed-forward part of ``block``: 2 x width x rank numbers, which do nothing yet.

    A is uniform within ``1 / sqrt(rank)`` (arXiv:2605.30260, as its code draws it), B zero. With ``alpha`` equal to the
    rank nothing is scaled, as there. PEFT has no such adapter.

    Args:
        model: the frozen model.
        specs: one for each branch.
        block: counted from 0.
        dtype: of the factors; at least that of the weights where that is float64.

    Raises:
        InputError: there is no such block, or no branch.
    """
    if not specs:
        raise InputError("expected at least one adapter, got none")
    if not 0 <= block < model.layers:
        raise InputError(f"expected a block from 0 to {model.layers - 1}, got {block}")
    name = f"{block}.branch"
    if model.dtype == torch.float64:
        dtype = model.dtype
    bounds = [1 / math.sqrt(spec.rank) for spec in specs]
    return Bank(tuple(specs), {name: _drawn(model, name, specs, (model.width, model.width), bounds, dtype)})


def maps(index: int, targets: Sequence[str]) -> list[str]:
    """Names of the linear maps ``targets`` in block ``index``."""
    return [f"{index}.{'self_attn' if target[0] in 'qkvo' else 'mlp'}.{target}" for target in targets]


def grown(model: LanguageModel, bank: Bank, rank: int) -> Bank:
    """The same adapters on linear maps with a larger rank: what they add is unchanged, the new room is untrained.

    Raises:
        InputError: the rank is not larger.
    """
    if rank <= max(spec.rank for spec in bank.specs):
        raise InputError(f"expected a rank above that of the adapters, got {rank}")
    specs = [Spec(rank, spec.alpha * rank / spec.rank, spec.seed) for spec in bank.specs]
    pairs: dict[str, Pair] = {}
    with torch.no_grad():
        for name, old in bank.pairs.items():
            pair = _fresh(model, name, specs)
            for number, spec in enumerate(bank.specs):
                pair.down[number, : spec.rank] = old.down[number, : spec.rank]
                pair.up[number, :, : spec.rank] = old.up[number, :, : spec.rank]
            pairs[name] = pair
    return Bank(tuple(specs), pairs)


def stack(specs: Sequence[Spec], factors: Sequence[Mapping[str, tuple[Tensor, Tensor]]]) -> Bank:
    """A bank of adapters that are given one by one: for each the factors A [r, in] and B [out, r] of its maps.

    Factors in a half type are taken to float32, in which they can be trained.
    """
    widest = max(spec.rank for spec in specs)
    shapes = {name: (down.shape[1], up.shape[0]) for own in factors for name, (down, up) in own.items()}
    given = [factor for own in factors for pair in own.values() for factor in pair]
    dtype = torch.promote_types(given[0].dtype, torch.float32)
    pairs: dict[str, Pair] = {}
    for name, (wide, out) in shapes.items():
        down = torch.zeros(len(specs), widest, wide, dtype=dtype, device=given[0].device)
        up = torch.zeros(len(specs), out, widest, dtype=dtype, device=given[0].device)
        for number, own in enumerate(factors):
            if name in own:
                rank = own[name][0].shape[0]
                down[number, :rank], up[number, :, :rank] = own[name]
        pairs[name] = Pair(down.requires_grad_(), up.requires_grad_())
    return Bank(tuple(specs), pairs)


def one(bank: Bank, number: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors A [r, in] and B [out, r] of one adapter, without padding, by map."""
    rank = bank.specs[number].rank
    return {
        name: (pair.down[number, :rank].detach().clone(), pair.up[number, :, :rank].detach().clone())
        for name, pair in bank.pairs.items()
    }


def _fresh(model: LanguageModel, name: str, specs: Sequence[Spec]) -> Pair:
    index, part, target = name.split(".")
    module = cast("nn.Linear", getattr(getattr(model.body.layers[int(index)], part), target))
    bounds = [1 / math.sqrt(module.in_features)] * len(specs)
    dtype = torch.promote_types(model.dtype, torch.float32)
    return _drawn(model, name, specs, (module.in_features, module.out_features), bounds, dtype)


def _drawn(
    model: LanguageModel,
    name: str,
    specs: Sequence[Spec],
    sizes: tuple[int, int],
    bounds: Sequence[float],
    dtype: torch.dtype,
) -> Pair:
    """Factors of a map of ``sizes`` (in, out): A uniform within each adapter's bound, B zero."""
    widest = max(spec.rank for spec in specs)
    down = torch.zeros(len(specs), widest, sizes[0], dtype=dtype)
    for number, (spec, bound) in enumerate(zip(specs, bounds, strict=True)):
        generator = torch.Generator().manual_seed(stream_seed(spec.seed, "adapter", name))
        drawn = torch.empty(spec.rank, sizes[0], dtype=torch.promote_types(dtype, torch.float32))
        down[number, : spec.rank] = drawn.uniform_(-bound, bound, generator=generator)
    up = torch.zeros(len(specs), sizes[1], widest, dtype=dtype)
    return Pair(down.to(model.device).requires_grad_(), up.to(model.device).requires_grad_())
