"""Run the frozen lower blocks once; keep their activations, on disk too, and start every later pass from there.

What is below the first adapter is a constant function of the tokens. Training repeats a text hundreds of times, so the
constant part is computed once and mapped into memory afterwards.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.core.records import digest
from gelert.lm import blocks
from gelert.lm.attention import causal
from gelert.lm.model import LanguageModel


@dataclass(frozen=True)
class Trunk:
    """The first ``layer`` blocks of a model, run once a text, and the blocks above, run as often as wanted."""

    model: LanguageModel
    layer: int
    """Blocks in the trunk, from 0 (the embedding alone) to all of them."""
    cache: Path | None = None
    """Folder for activations; ``None`` keeps nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.layer <= self.model.layers:
            raise InputError(f"expected a trunk of 0 to {self.model.layers} blocks, got {self.layer}")

    def activations(self, ids: Sequence[int]) -> Tensor:
        """The residual stream after the trunk, [n, width], without gradients; read from the cache where it is there.

        One finished file a text, renamed into place: an interrupted run goes on where it stopped.
        """
        if self.cache is None:
            return self._run(ids)
        path = self.path(ids)
        kept = _kept(path, (len(ids), self.model.width))
        if kept is not None:
            return kept
        found = self._run(ids)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(found, partial)
        partial.replace(path)
        return found

    def path(self, ids: Sequence[int]) -> Path:
        """Where the activations of ``ids`` are kept: a name from the weights, the layer, the type and the tokens."""
        assert self.cache is not None
        kind = f"{self.model.fingerprint[:16]}-{self.layer}-{str(self.model.dtype).removeprefix('torch.')}"
        return self.cache / kind / f"{digest(list(ids))}.pt"

    def upper(self, hidden: Tensor, *, linear: blocks.Linear = blocks.plain) -> Tensor:
        """The residual stream after the last block, [B, n, width], from that after the trunk.

        Rows are texts from their first token on; shorter ones are padded at the end, where no real token looks.

        Args:
            hidden: [B, n, width] activations.
            linear: applies each linear map, with adapters if they have any.
        """
        return _run_blocks(self.model, hidden, range(self.layer, self.model.layers), linear)

    @torch.no_grad()
    def _run(self, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self.model.device)
        return _run_blocks(self.model, self.model.embed(tokens[None]), range(self.layer), blocks.plain)[0]


def _run_blocks(model: LanguageModel, hidden: Tensor, numbers: range, linear: blocks.Linear) -> Tensor:
    turned = blocks.angles(model.body, hidden, torch.arange(hidden.shape[1], device=hidden.device))
    for index in numbers:
        layer = model.body.layers[index]

        def attend(queries: Tensor, keys: Tensor, values: Tensor, layer: blocks.Block = layer) -> Tensor:
            return causal(queries, keys, values, layer.self_attn.scaling, blocks.window(layer))

        hidden = blocks.run_block(layer, index, hidden, turned[model.kinds[index]], attend, linear=linear)
    return hidden


def _kept(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """The mapped activations, or ``None`` where there are none or the file is damaged and must be made again."""
    if not path.is_file():
        return None
    try:
        found = torch.load(path, mmap=True, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return found if isinstance(found, Tensor) and found.shape == shape else None
