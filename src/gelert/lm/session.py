"""Keep the keys and values of a prefix; pay only for what is appended, and ask many questions of it at once.

A guard that watches a running agent appends each step once. A question is a short tail after the prefix: all tails are
run in one pass in which each sees the prefix and itself, and nothing of them is kept.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from gelert.core.errors import InputError, ModelError
from gelert.lm import blocks
from gelert.lm.attention import Fresh, extend
from gelert.lm.model import LanguageModel

CHUNK_TOKENS = 1024
"""Tokens run at once when appending: more takes more memory and is not faster."""


class Session:
    """Keys and values of a prefix of one text.

    Args:
        model: the frozen model.
        max_layer: how many blocks to run (all by default); states above it and scores cannot be asked for.
        linear: applies each map of a block, with an adapter if it has one.
    """

    def __init__(
        self, model: LanguageModel, *, max_layer: int | None = None, linear: blocks.Linear = blocks.plain
    ) -> None:
        self.model, self.linear = model, linear
        self.max_layer = model.layers if max_layer is None else max_layer
        if not 1 <= self.max_layer <= model.layers:
            raise InputError(f"expected between 1 and {model.layers} blocks, got {max_layer}")
        self.length = 0
        self._shared = False
        self._keys, self._values = (self._room(0), self._room(0))

    def append(self, ids: Sequence[int], *, marked: Sequence[bool] = (), layers: Sequence[int] = ()) -> Tensor:
        """Read more tokens; costs only these.

        Args:
            ids: the tokens.
            marked: which of them are summed over; needed with ``layers``.
            layers: counts of blocks run, from 1 to ``max_layer`` - 1.

        Returns:
            The residual stream after each of ``layers``, summed over the marked tokens: [layers, width] in float32 or
            better.

        Raises:
            InputError: the prefix would become longer than the model's context, a layer is not there, or there are
                not as many marks as tokens.
        """
        self._fits(len(ids))
        if not all(1 <= layer < self.max_layer for layer in layers):
            raise InputError(f"expected layers to sum from 1 to {self.max_layer - 1}, got {list(layers)}")
        if layers and len(marked) != len(ids):
            raise InputError(f"expected a mark for each of {len(ids)} tokens, got {len(marked)}")
        self._reserve(self.length + len(ids))
        exact = torch.promote_types(self.model.dtype, torch.float32)
        sums = torch.zeros(len(layers), self.model.width, dtype=exact, device=self.model.device)
        for start in range(0, len(ids), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            self._append(ids[part], torch.tensor(marked[part], dtype=torch.bool), layers, sums)
        return sums

    @property
    def kept_bytes(self) -> int:
        """Of keys and values; what is shared with a fork counts in both."""
        return self._keys.nbytes + self._values.nbytes

    def fork(self) -> "Session":
        """A second session on the same prefix; keys and values are copied when either one appends."""
        twin = Session.__new__(Session)
        twin.__dict__.update(self.__dict__)
        self._shared = twin._shared = True
        return twin

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens.

        Raises:
            InputError: the prefix is not that long.
        """
        if not 0 <= length <= self.length:
            raise InputError(f"expected a length from 0 to {self.length}, got {length}")
        self.length = length

    def kept(self, first: int) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of the prefix in the blocks from ``first`` on, each [blocks, K, n, d]; copies.

        Raises:
            InputError: there is no such block.
        """
        if not 0 <= first < self.max_layer:
            raise InputError(f"expected a block from 0 to {self.max_layer - 1}, got {first}")
        return self._keys[first:, :, : self.length].clone(), self._values[first:, :, : self.length].clone()

    @torch.no_grad()
    def stream(self, tail: Sequence[int], layer: int) -> Tensor:
        """The residual stream at every token of ``tail`` after ``layer`` blocks, [n, width]; nothing is kept.

        Raises:
            InputError: the tail is empty or does not fit, or the layer is not there.
        """
        if not 0 <= layer <= self.max_layer:
            raise InputError(f"expected a layer from 0 to {self.max_layer}, got {layer}")
        if not tail:
            raise InputError("expected a tail of at least one token, got an empty one")
        self._fits(len(tail))
        if layer == 0:
            return self.model.embed(self._tensor(tail))
        every = range(len(tail))
        return self._look(tail, every, [1] * len(tail), self._tensor(every), [layer])[layer]

    @torch.no_grad()
    def states(self, tails: Sequence[Sequence[int]], layers: Sequence[int]) -> Tensor:
        """The residual stream at the last token of each tail, [tails, layers, width] in float32 or better.

        Args:
            tails: tokens after the prefix, none of them empty; they do not see each other.
            layers: counts of blocks run, from 1 (after the first block) to ``max_layer``; no final norm is applied.

        Raises:
            InputError: there are no tails or layers, a tail is empty or does not fit, or a layer is not there.
        """
        if not layers or not all(1 <= layer <= self.max_layer for layer in layers):
            raise InputError(f"expected layers from 1 to {self.max_layer}, got {list(layers)}")
        if not tails or not all(tails):
            raise InputError("expected tails of at least one token each, got none or an empty one")
        self._fits(max(map(len, tails)))
        branch = [number for number, tail in enumerate(tails, start=1) for _ in tail]
        offsets = list(chain.from_iterable(range(len(tail)) for tail in tails))
        last = self._tensor(list(_ends(tails)))
        found = self._look(list(chain.from_iterable(tails)), offsets, branch, last, sorted(set(layers)))
        stacked = torch.stack([found[layer] for layer in layers], dim=1)
        return stacked.to(torch.promote_types(stacked.dtype, torch.float32))

    @torch.no_grad()
    def score(self, labels: Sequence[Sequence[int]], tail: Sequence[int]) -> Tensor:
        """Log-probability of each label after the prefix and ``tail``, summed over its tokens, float32 [labels].

        The tail is run once for all labels, and the head only where a label's token is expected.

        Raises:
            InputError: the tail or a label is empty, or they do not fit.
            ModelError: the model was loaded, or the session opened, without its upper blocks.
        """
        if self.max_layer != self.model.depth:
            raise ModelError(f"expected all {self.model.depth} blocks for scores, got the first {self.max_layer}")
        if not tail or not labels or not all(labels):
            raise InputError("expected a tail and labels of at least one token each, got none or an empty one")
        self._fits(len(tail) + max(map(len, labels)))
        heads = [list(label[:-1]) for label in labels]
        ids = [*tail, *chain.from_iterable(heads)]
        branch = [0] * len(tail) + [number for number, head in enumerate(heads, start=1) for _ in head]
        offsets = [*range(len(tail)), *chain.from_iterable(range(len(tail), len(tail) + len(head)) for head in heads)]
        asks = self._tensor(range(len(tail) - 1, len(ids)))
        found = self._look(ids, offsets, branch, asks, [self.max_layer])[self.max_layer]
        return _label_sums(self.model.log_probs(found), labels)

    def _look(
        self, ids: Sequence[int], offsets: Sequence[int], branch: Sequence[int], rows: Tensor, layers: Sequence[int]
    ) -> dict[int, Tensor]:
        """The residual stream [rows, width] after each of ``layers`` (rising); nothing is kept."""
        positions = self.length + self._tensor(offsets)
        hidden = self.model.embed(self._tensor(ids)[None])
        turned = blocks.angles(self.model.body, hidden, positions)
        everyone = Fresh(positions, self._tensor(branch))
        askers = Fresh(positions, everyone.branch, rows)
        found: dict[int, Tensor] = {}
        for index in range(layers[-1]):
            final = index + 1 == layers[-1]
            hidden = self._block(index, hidden, turned, askers if final else everyone)
            if index + 1 in layers:
                found[index + 1] = hidden[0] if final else hidden[0, rows]
        return found

    @torch.no_grad()
    def _append(self, ids: Sequence[int], marked: Tensor, layers: Sequence[int], sums: Tensor) -> None:
        end = self.length + len(ids)
        positions = torch.arange(self.length, end, device=self.model.device)
        hidden = self.model.embed(self._tensor(ids)[None])
        turned = blocks.angles(self.model.body, hidden, positions)
        for index in range(self.max_layer):
            layer = self.model.body.layers[index]
            kind = self.model.kinds[index]
            if index + 1 == self.max_layer:  # nobody reads what the last block gives
                keep = blocks.keys_values(layer, index, layer.input_layernorm(hidden), turned[kind], self.linear)
                self._keep(index, *keep)
            else:
                hidden = self._block(index, hidden, turned, Fresh(positions), keep=True)
            for row in (row for row, layer in enumerate(layers) if layer == index + 1):
                sums[row] += hidden[0, marked].sum(0, dtype=sums.dtype)
        self.length = end

    def _block(
        self, index: int, hidden: Tensor, turned: dict[str, blocks.Angles], where: Fresh, *, keep: bool = False
    ) -> Tensor:
        layer = self.model.body.layers[index]
        old = self._keys[index][None, :, : self.length], self._values[index][None, :, : self.length]

        def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            if keep:
                self._keep(index, keys, values)
            return extend(queries, (keys, values), old, where, layer.self_attn.scaling, blocks.window(layer))

        angles = turned[self.model.kinds[index]]
        return blocks.run_block(layer, index, hidden, angles, attend, rows=where.rows, linear=self.linear)

    def _keep(self, index: int, keys: Tensor, values: Tensor) -> None:
        end = self.length + keys.shape[2]
        self._keys[index, :, self.length : end] = keys[0]
        self._values[index, :, self.length : end] = values[0]

    def _room(self, tokens: int) -> Tensor:
        config = self.model.body.config
        size = self.model.body.layers[0].self_attn.head_dim
        shape = (self.max_layer, config.num_key_value_heads, tokens, size)
        return torch.empty(shape, dtype=self.model.dtype, device=self.model.device)

    def _reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` in buffers of our own; they double, so that appending stays linear."""
        if tokens <= self._keys.shape[2] and not self._shared:
            return
        room = min(self.model.context, max(tokens, 2 * self._keys.shape[2]))
        if self._shared and tokens <= self._keys.shape[2]:
            room = self._keys.shape[2]
        keys, values = self._room(room), self._room(room)
        keys[:, :, : self.length] = self._keys[:, :, : self.length]
        values[:, :, : self.length] = self._values[:, :, : self.length]
        self._keys, self._values, self._shared = keys, values, False

    def _fits(self, tokens: int) -> None:
        if self.length + tokens > self.model.context:
            came = f"{self.length} + {tokens}"
            raise InputError(f"expected at most {self.model.context} tokens in the model's context, got {came}")

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self.model.device)


@torch.no_grad()
def greedy(session: Session, prompt: Sequence[int], count: int) -> list[int]:
    """The ``count`` tokens that follow ``prompt``, each the most probable one; the session keeps all but the last.

    Raises:
        InputError: the prompt is empty, or all does not fit the model's context.
    """
    session.append(prompt[:-1])
    found: list[int] = []
    last = prompt[-1]
    while len(found) < count:
        state = session.states([[last]], [session.max_layer])[:, 0]
        session.append([last])
        last = int(session.model.logits(state.to(session.model.dtype)).argmax())
        found.append(last)
    return found


def _ends(tails: Sequence[Sequence[int]]) -> list[int]:
    """Where each tail's last token stands when they are laid end to end."""
    total, ends = 0, []
    for tail in tails:
        total += len(tail)
        ends.append(total - 1)
    return ends


def _label_sums(log_probs: Tensor, labels: Sequence[Sequence[int]]) -> Tensor:
    """Sum each label's log-probabilities; row 0 predicts all first tokens, then each label's rows follow in turn."""
    sums, row = [], 1
    for label in labels:
        rows = [0, *range(row, row + len(label) - 1)]
        sums.append(log_probs[rows, list(label)].sum())
        row += len(label) - 1
    return torch.stack(sums)
