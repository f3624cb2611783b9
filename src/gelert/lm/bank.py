"""Many low-rank adapters trained and run in one batch: each row of the batch goes through its own.

An adapter adds ``(alpha / r) * B A x`` to a frozen linear map (LoRA, arXiv 2106.09685 sec. 4.1), with A [r, in] and
B [out, r]. Adapters of different rank are padded with zeros to the largest: a padded row of A and column of B are both
zero, so both gradients are zero and stay so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gelert.core.errors import InputError
from gelert.core.seeds import stream_seed
from gelert.lm import blocks
from gelert.lm.model import LanguageModel

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

    def linear(self, adapters: Sequence[int]) -> blocks.Linear:
        """A way to apply linear maps in which row b of the batch goes through adapter ``adapters[b]``."""
        rows = torch.tensor(list(adapters))
        scales = [self.specs[number].alpha / self.specs[number].rank for number in adapters]
        scale = torch.tensor(scales, dtype=torch.float64)[:, None, None]

        def apply(name: str, module: nn.Module, inputs: Tensor) -> Tensor:
            plain = module(inputs)
            pair = self.pairs.get(name)
            if pair is None:
                return plain
            down = pair.down[rows].to(inputs.dtype)
            exact = torch.promote_types(pair.up.dtype, inputs.dtype)
            up = (pair.up[rows].to(exact) * scale.to(inputs.device, exact)).to(inputs.dtype)
            return plain + inputs @ down.mT @ up.mT

        return apply


def new(model: LanguageModel, specs: Sequence[Spec], *, blocks_from: int, targets: Sequence[str] = TARGETS) -> Bank:
    """Adapters that do nothing yet: A uniform as in PEFT, B zero.

    Each adapter's numbers come from its own seed, so that it starts the same alone and among others.

    Args:
        model: the frozen model; adapters are float32 at least, whatever the type of its weights.
        specs: one for each adapter.
        blocks_from: the first block with adapters, counted from 0; all above have them too.
        targets: which maps of each block.

    Raises:
        InputError: a target or a block is not there, or there is no adapter.
    """
    if not specs:
        raise InputError("expected at least one adapter, got none")
    if unknown := sorted(set(targets) - set(TARGETS)):
        raise InputError(f"expected targets among {', '.join(TARGETS)}, got {', '.join(unknown)}")
    if not 0 <= blocks_from < model.layers:
        raise InputError(f"expected a first block from 0 to {model.layers - 1}, got {blocks_from}")
    names = [name for index in range(blocks_from, model.layers) for name in maps(index, targets)]
    return Bank(tuple(specs), {name: _fresh(model, name, specs) for name in names})


def maps(index: int, targets: Sequence[str]) -> list[str]:
    """Names of the linear maps ``targets`` in block ``index``."""
    return [f"{index}.{'self_attn' if target[0] in 'qkvo' else 'mlp'}.{target}" for target in targets]


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
    dtype = torch.promote_types(model.dtype, torch.float32)
    widest = max(spec.rank for spec in specs)
    down = torch.zeros(len(specs), widest, module.in_features, dtype=dtype)
    for number, spec in enumerate(specs):
        generator = torch.Generator().manual_seed(stream_seed(spec.seed, "adapter", name))
        bound = 1 / math.sqrt(module.in_features)
        drawn = torch.empty(spec.rank, module.in_features, dtype=dtype).uniform_(-bound, bound, generator=generator)
        down[number, : spec.rank] = drawn
    up = torch.zeros(len(specs), module.out_features, widest, dtype=dtype)
    return Pair(down.to(model.device).requires_grad_(), up.to(model.device).requires_grad_())
