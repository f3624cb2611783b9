"""Many episodes of a model on this machine at once: each message is written for all of them together.

Keys and values stay from message to message, so an episode costs what is new in it. Rows differ in length: what pads
them stays in the cache as columns that nothing attends to.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from gelert.worlds.rollout import Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Sampler:
    """Plays episodes to their ends.

    Args:
        net: a causal language model.
        ends: tokens that end a message.
        most: tokens of a message.
        temperature: of its draws; 0 takes the likeliest token.
        random: of the draws.
    """

    def __init__(
        self,
        net: "PreTrainedModel",
        ends: Collection[int],
        most: int,
        *,
        temperature: float = 0.0,
        random: torch.Generator | None = None,
    ) -> None:
        self._net, self._most, self._temperature, self._random = net, most, temperature, random
        self._ends = torch.tensor(sorted(ends), device=net.device)

    @torch.no_grad()
    def play(self, rollouts: Sequence[Rollout], tell: Callable[[int], None] = lambda _done: None) -> None:
        """Play them all.

        Args:
            rollouts: that have just begun.
            tell: is told after each round how many are over.
        """
        rows = [one for one in rollouts if not one.over]
        told = [one.context for one in rows]
        held = _Held(self._net, len(rows))
        while rows:
            said = self._messages(held, told)
            told = [one.take(tokens) for one, tokens in zip(rows, said, strict=True)]
            going = [at for at, one in enumerate(rows) if not one.over]
            rows, told = [rows[at] for at in going], [told[at] for at in going]
            # The last token that was drawn is read with what comes behind it.
            told = [said[at][-1:] + tokens for at, tokens in zip(going, told, strict=True)]
            held.keep(going)
            tell(len(rollouts) - len(rows))

    def _messages(self, held: "_Held", told: Sequence[Sequence[int]]) -> list[list[int]]:
        """One message for each row, behind what it is told; the last token of each is not read."""
        said: list[list[int]] = [[] for _ in told]
        self._speak(held, held.read(told), said)
        return said

    def _speak(self, held: "_Held", logits: Tensor, said: Sequence[list[int]]) -> None:
        """Write the messages on, from what comes next in each row; where half of them have ended, the others alone."""
        busy = torch.ones(len(said), dtype=torch.bool, device=logits.device)
        while True:
            drawn = self._draw(logits)
            for row, (going, token) in enumerate(zip(busy.tolist(), drawn.tolist(), strict=True)):
                if going:
                    said[row].append(token)
            busy &= ~torch.isin(drawn, self._ends)
            going = busy.nonzero()[:, 0]
            if not len(going) or max(map(len, said)) >= self._most:
                return
            if len(going) * 2 <= len(said):
                part = held.part(going)
                left = [said[row] for row in going.tolist()]
                self._speak(part, part.step(drawn[going], busy[going]), left)
                held.join(part, going)
                return
            logits = held.step(drawn, busy)

    def _draw(self, logits: Tensor) -> Tensor:
        if self._temperature <= 0:
            return logits.argmax(-1)
        likely = (logits.float() / self._temperature).softmax(-1)
        return likely.multinomial(1, generator=self._random)[:, 0]


class _Held:
    """Keys and values of rows of different lengths."""

    def __init__(self, net: "PreTrainedModel", rows: int) -> None:
        self._net = net
        self._cache = DynamicCache()
        self._seen = torch.zeros(rows, 0, dtype=torch.long, device=net.device)
        """1 for the columns that hold a token of the row."""

    def read(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read on in each row; logits [rows, vocabulary] behind the last token of each."""
        width = max(map(len, tokens))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens], device=self._net.device)
        real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in tokens], device=self._net.device)
        return self._forward(ids, real)

    def step(self, tokens: Tensor, busy: Tensor) -> Tensor:
        """Read one more token [rows] in the rows that are busy."""
        return self._forward(tokens[:, None], busy[:, None].long())

    def keep(self, rows: Sequence[int]) -> None:
        """Forget the other rows."""
        if rows and len(rows) < len(self._seen):
            index = torch.tensor(rows, device=self._seen.device)
            self._cache.batch_select_indices(index)
            self._seen = self._seen[index]

    def part(self, rows: Tensor) -> "_Held":
        """A copy of some rows."""
        found = _Held(self._net, len(rows))
        for number, (keys, values) in enumerate(self._layers()):
            found._cache.update(keys[rows], values[rows], number)
        found._seen = self._seen[rows]
        return found

    def join(self, part: "_Held", rows: Tensor) -> None:
        """Take over what was read in a copy of some rows."""
        longer = part._seen.shape[1] - self._seen.shape[1]
        cache = DynamicCache()
        for number, (own, other) in enumerate(zip(self._layers(), part._layers(), strict=True)):
            wider = [torch.nn.functional.pad(one, (0, 0, 0, longer)) for one in own]
            for one, new in zip(wider, other, strict=True):
                one[rows] = new
            keys, values = wider
            cache.update(keys, values, number)
        self._cache = cache
        self._seen = torch.nn.functional.pad(self._seen, (0, longer))
        self._seen[rows] = part._seen

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [rows, heads, columns, width] of each block."""
        layers: Any = self._cache.layers
        return [(one.keys, one.values) for one in layers]

    def _forward(self, ids: Tensor, real: Tensor) -> Tensor:
        before = self._seen.sum(1, keepdim=True)
        self._seen = torch.cat([self._seen, real], 1)
        places = (before + real.cumsum(1) - 1).clamp_min(0)
        net: Any = self._net
        out = net(
            input_ids=ids,
            attention_mask=self._seen,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]
