"""Run the frozen lower blocks once; keep their activations, on disk too, and start every later pass from there.

What is below the first adapter is a constant function of the tokens. Training repeats a text hundreds of times, so the
constant part is computed once and mapped into memory afterwards.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
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
    branch: bool = False
    """Keep for each token also what the feed-forward part of the trunk's last block reads: for a branch there."""

    def __post_init__(self) -> None:
        if not 0 <= self.layer <= self.model.layers:
            raise InputError(f"expected a trunk of 0 to {self.model.layers} blocks, got {self.layer}")
        if self.branch and not self.layer:
            raise InputError("expected a trunk of at least one block beside which a branch can lie, got 0")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the activations of one token: the width, or two of it with a branch."""
        return (2, self.model.width) if self.branch else (self.model.width,)

    def carries(self, name: str) -> bool:
        """Whether the map called ``name`` is run by ``upper``."""
        block, part = name.split(".", 1)
        return int(block) >= self.layer or (self.branch and part == "branch" and int(block) == self.layer - 1)

    def activations(self, ids: Sequence[int]) -> Tensor:
        """The residual stream after the trunk, [n, width], without gradients; read from the cache where it is there.

        With a branch [n, 2, width]: the stream, then what the branch reads.

        One finished file a text, renamed into place: an interrupted run goes on where it stopped.
        """
        if self.cache is None:
            return self._run(ids)
        path = self.path(ids)
        kept = _kept(path, (len(ids), *self.shape))
        if kept is not None:
            return kept.to(self.model.device)
        found = self._run(ids)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(found, partial)
        partial.replace(path)
        return found

    def path(self, ids: Sequence[int]) -> Path:
        """Where the activations of ``ids`` are kept: a name from the weights, the layer, the type and the tokens."""
        assert self.cache is not None
        dtype = str(self.model.dtype).removeprefix("torch.")
        kind = f"{self.model.fingerprint[:16]}-{self.layer}{'-branch' * self.branch}-{dtype}"
        return self.cache / kind / f"{digest(list(ids))}.pt"

    def upper(self, hidden: Tensor, *, linear: blocks.Linear = blocks.plain) -> Tensor:
        """The residual stream after the last block, [B, n, width], from that after the trunk.

        Rows are texts from their first token on; shorter ones are padded at the end, where no real token looks.

        Args:
            hidden: [B, n, width] activations; [B, n, 2, width] with a branch.
            linear: applies each linear map, with adapters if they have any.
        """
        if self.branch:
            joined, read = hidden.unbind(-2)
            hidden = linear(f"{self.layer - 1}.branch", lambda _read: joined, read)
        return _run_blocks(self.model, hidden, range(self.layer, self.model.layers), linear)

    @torch.no_grad()
    def _run(self, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self.model.device)
        read: dict[str, Tensor] = {}

        def keep(name: str, module: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
            if name.endswith(".branch"):
                read["last"] = inputs
            return module(inputs)

        hidden = _run_blocks(self.model, self.model.embed(tokens[None]), range(self.layer), keep)
        return torch.stack([hidden, read["last"]], dim=-2)[0] if self.branch else hidden[0]


class Prefill:
    """Activations of many texts from a trunk: one that begins another is a part of it and costs nothing.

    Args:
        trunk: kept activations come from its cache, mapped into memory; without one they are held here.
        texts: the tokens of all texts.
    """

    def __init__(self, trunk: Trunk, texts: Iterable[Sequence[int]]) -> None:
        self.trunk = trunk
        self._longest: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._held: dict[tuple[int, ...], Tensor] = {}
        last: tuple[int, ...] = ()
        for text in sorted(set(map(tuple, texts)), reverse=True):  # a text comes right after those it begins
            if last[: len(text)] != text:
                last = text
            self._longest[text] = last

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        """The activations [n, ...] of one of the texts."""
        longest = self._longest[tuple(ids)]
        if longest not in self._held:
            self._held[longest] = self.trunk.activations(longest)
        return self._held[longest][: len(ids)]

    def batch(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """[B, n, ...] activations of several; zeros at the end, where no real token looks."""
        return torch.nn.utils.rnn.pad_sequence([self[ids] for ids in texts], batch_first=True)


def _run_blocks(model: LanguageModel, hidden: Tensor, numbers: range, linear: blocks.Linear) -> Tensor:
    turned = blocks.angles(model.body, hidden, torch.arange(hidden.shape[1], device=hidden.device))
    for index in numbers:
        layer = model.body.layers[index]

        def attend(queries: Tensor, keys: Tensor, values: Tensor, layer: blocks.Block = layer) -> Tensor:
            return causal(queries, keys, values, layer.self_attn.scaling, blocks.window(layer))

        hidden = blocks.run_block(layer, index, hidden, turned[model.kinds[index]], attend, linear=linear)
    return hidden


def _kept(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The mapped activations, or ``None`` where there are none or the file is damaged and must be made again."""
    if not path.is_file():
        return None
    try:
        found = torch.load(path, mmap=True, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return found if isinstance(found, Tensor) and found.shape == shape else None
