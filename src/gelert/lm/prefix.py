"""Adapters that act on answers only: a prompt is read once, and its keys and values are kept, on disk and mapped.

An adapter that acts from the question on (an activated LoRA, arXiv:2504.12397) leaves the keys and values of what is
before as the frozen model makes them. So a training step runs the blocks above the trunk over the question and the
answer alone, some dozens of tokens instead of a thousand; and when the guard serves, one set of keys and values is read
by the frozen model and by any number of guards. ``Whole`` is the other design, an adapter that acts on all tokens.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gelert.core.errors import InputError
from gelert.core.records import digest
from gelert.lm import blocks
from gelert.lm.objective import Example
from gelert.lm.session import Session
from gelert.lm.trunk import Trunk


@dataclass(frozen=True)
class Reply(Example):
    """A question and its answer; the prompt before them is read and not learned."""

    prompt: tuple[int, ...] = ()
    """Tokens before ``ids``."""

    @property
    def key(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the kept numbers depend on."""
        return self.prompt, self.ids


@dataclass(frozen=True)
class Kept:
    """What is constant of a reply: L tokens of prompt, n of its own."""

    keys: Tensor
    """[blocks, K, L, d], rotated, of the prompt in the blocks above the trunk."""
    values: Tensor
    stream: Tensor
    """[n, width] after the trunk, at the reply's own tokens."""


class Prefixes:
    """Replies to prompts that are read once; the blocks above the trunk run over the replies alone.

    Args:
        trunk: the frozen model, how many of its blocks have no adapter, and where what is read is kept.
    """

    def __init__(self, trunk: Trunk) -> None:
        if trunk.branch:
            raise InputError("expected a trunk without a branch, whose input is not kept")
        self.trunk = trunk
        self._held: dict[tuple[tuple[int, ...], tuple[int, ...]], Kept] = {}

    def read(self, replies: Sequence[Reply], progress: Callable[[int], None] = lambda _: None) -> None:
        """Read what is not kept yet. Prompts that begin alike are read together: what they share, once.

        Args:
            replies: to be run later.
            progress: told after each how many are done.
        """
        session, read = Session(self.trunk.model), tuple[int, ...]()
        for done, reply in enumerate(sorted({one.key: one for one in replies}.values(), key=_order), start=1):
            if self._load(reply) is None:
                shared = next((at for at, (a, b) in enumerate(zip(read, reply.prompt, strict=False)) if a != b), None)
                session.rewind(min(len(read), len(reply.prompt)) if shared is None else shared)
                session.append(reply.prompt[session.length :])
                read = reply.prompt
                stream = session.stream(reply.ids, self.trunk.layer)
                self._save(reply, Kept(*session.kept(self.trunk.layer), stream))
            progress(done)

    def stream(self, examples: Sequence[Example], linear: blocks.Linear) -> Tensor:
        """The residual stream after the last block at the replies' tokens, [B, n, width]; padded at the end.

        Args:
            examples: replies.
            linear: applies each linear map of the blocks above the trunk, with adapters if they have any.
        """
        model, replies = self.trunk.model, _replies(examples)
        kept = [self[reply] for reply in replies]
        hidden = pad_sequence([one.stream for one in kept], batch_first=True)
        starts = torch.tensor([len(reply.prompt) for reply in replies], device=hidden.device)
        positions = starts[:, None] + torch.arange(hidden.shape[1], device=hidden.device)
        every = torch.arange(int(positions.max()) + 1, device=hidden.device)
        turned = {
            kind: blocks.Angles(angles.cos[0, positions], angles.sin[0, positions])
            for kind, angles in blocks.angles(model.body, hidden, every).items()
        }
        rows = _same_prompt(replies)
        for index in range(self.trunk.layer, model.layers):
            layer = model.body.layers[index]
            old = [(one.keys[index - self.trunk.layer], one.values[index - self.trunk.layer]) for one in kept]

            def attend(
                queries: Tensor,
                keys: Tensor,
                values: Tensor,
                layer: blocks.Block = layer,
                old: list[tuple[Tensor, Tensor]] = old,
            ) -> Tensor:
                scale, window = layer.self_attn.scaling, blocks.window(layer)
                parts = [attend_after(queries[at], (keys[at], values[at]), old[at[0]], scale, window) for at in rows]
                return torch.cat(parts)[torch.tensor([at for part in rows for at in part]).argsort()]

            hidden = blocks.run_block(layer, index, hidden, turned[model.kinds[index]], attend, linear=linear)
        return hidden

    def __getitem__(self, reply: Reply) -> Kept:
        """What is kept of a reply; it is read where it is not kept yet."""
        if reply.key not in self._held and self._load(reply) is None:
            self.read([reply])
        return self._held[reply.key]

    def _path(self, reply: Reply) -> Path | None:
        if self.trunk.cache is None:
            return None
        model = self.trunk.model
        dtype = str(model.dtype).removeprefix("torch.")
        kind = f"{model.fingerprint[:16]}-{self.trunk.layer}-prefix-{dtype}"
        return self.trunk.cache / kind / f"{digest([list(reply.prompt), list(reply.ids)])}.pt"

    def _load(self, reply: Reply) -> Kept | None:
        """Mapped into memory; ``None`` where there is nothing or the file is damaged and must be made again."""
        if reply.key in self._held:
            return self._held[reply.key]
        path = self._path(reply)
        if path is None or not path.is_file():
            return None
        try:
            found = torch.load(path, mmap=True, weights_only=True)
            kept = Kept(**found)
        except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError):
            return None
        if kept.keys.shape[2] != len(reply.prompt) or kept.stream.shape[0] != len(reply.ids):
            return None
        self._held[reply.key] = kept
        return kept

    def _save(self, reply: Reply, kept: Kept) -> None:
        path = self._path(reply)
        if path is None:
            self._held[reply.key] = kept
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(vars(kept), partial)
        partial.replace(path)
        self._load(reply)


class Whole:
    """Replies through adapters that act on all tokens, the prompt's too; the same surface as ``Prefixes``."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self._held: dict[tuple[int, ...], Tensor] = {}

    def read(self, replies: Sequence[Reply], progress: Callable[[int], None] = lambda _: None) -> None:
        """Run the trunk over prompts and replies.

        Args:
            replies: to be run later.
            progress: told after each how many are done.
        """
        for done, reply in enumerate(replies, start=1):
            self._activations(reply)
            progress(done)

    def stream(self, examples: Sequence[Example], linear: blocks.Linear) -> Tensor:
        """The residual stream after the last block at the replies' tokens, [B, n, width]; padded at the end.

        Args:
            examples: replies; those that were not read yet are.
            linear: applies each linear map of the blocks above the trunk.
        """
        replies = _replies(examples)
        found = self.trunk.upper(
            pad_sequence([self._activations(one) for one in replies], batch_first=True), linear=linear
        )
        own = [row[len(one.prompt) : len(one.prompt) + len(one.ids)] for row, one in zip(found, replies, strict=True)]
        return pad_sequence(own, batch_first=True)

    def _activations(self, reply: Reply) -> Tensor:
        text = (*reply.prompt, *reply.ids)
        if text not in self._held:
            self._held[text] = self.trunk.activations(text)
        return self._held[text]


def attend_after(
    queries: Tensor,
    own: tuple[Tensor, Tensor],
    old: tuple[Tensor, Tensor],
    scale: float,
    window: int | None,
) -> Tensor:
    """Attention of rows of n tokens to one prompt before them and to themselves, [R, H, n, d]; differentiable.

    Args:
        queries: [R, H, n, d], already rotated.
        own: keys and values of the rows, each [R, K, n, d].
        old: keys and values of the prompt, each [K, L, d].
        scale: what scores are multiplied by.
        window: how many positions a token sees, itself included; ``None`` for all.
    """
    rows, heads, count, size = queries.shape
    shared, length = old[0].shape[0], old[0].shape[1]
    # The query heads that share a key head are laid end to end, of all rows: each key head is read once.
    folded = queries.view(rows, shared, -1, count, size).transpose(0, 1)
    before = (folded.flatten(1, 3) @ old[0].mT).view(*folded.shape[:-1], length)
    among = folded @ own[0].transpose(0, 1)[:, :, None].mT
    exact = torch.promote_types(queries.dtype, torch.float32)
    scores = torch.cat((before, among), -1).to(exact) * scale
    seen = _seen(length, count, window, queries.device)
    shares = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(queries.dtype)
    mixed = (shares[..., :length].flatten(1, 3) @ old[1]).view(folded.shape)
    mixed = mixed + shares[..., length:] @ own[1].transpose(0, 1)[:, :, None]
    return mixed.transpose(0, 1).reshape(rows, heads, count, size)


def _seen(length: int, count: int, window: int | None, device: torch.device) -> Tensor:
    """[n, L + n] which positions each of the n tokens sees."""
    behind = torch.arange(length, length + count, device=device)[:, None] - torch.arange(length + count, device=device)
    return behind >= 0 if window is None else (behind >= 0) & (behind < window)


def _same_prompt(replies: Sequence[Reply]) -> list[list[int]]:
    """The rows of each prompt."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, reply in enumerate(replies):
        rows.setdefault(reply.prompt, []).append(row)
    return list(rows.values())


def _order(reply: Reply) -> tuple[int, ...]:
    return reply.prompt


def _replies(examples: Sequence[Example]) -> list[Reply]:
    assert all(isinstance(example, Reply) for example in examples), "a stream over replies is given replies"
    return cast("list[Reply]", list(examples))
