"""The one door to ``gelert.lm``: a model on this machine, read at chosen positions or asked for text.

Everything that leaves here is a number or a text; nobody above this package sees a tensor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import ModelError, missing_extra
from gelert.spread.workers import reachable

if TYPE_CHECKING:
    from gelert.lm.model import LanguageModel
    from gelert.lm.session import Session

OPENINGS = (("<|im_start|>", "user\n"), ("<start_of_turn>", "user\n"), ("<|begin_of_text|>", ""), ("<bos>", ""))
"""First control token of a text and the words after it, by chat form; the first that the model has is taken."""

BEGINNINGS = 4
"""Kept of a model; one of 500 tokens takes 5 MB in the default guard."""

States = NDArray[np.float32]
"""Shape ``[tails, layers, width]``: residual stream at the last position of each tail, after each block asked for."""


class Reader:
    """A text being read: keys and values are kept, so reading on costs only what is new.

    Tokens wait until a state is asked for: one long stretch is read faster than many short ones.

    Args:
        session: of the model.
        pools: after how many blocks the states of pooled tokens are summed.
    """

    def __init__(self, session: "Session", pools: Sequence[int] = ()) -> None:
        self._session = session
        self._pools = tuple(pools)
        self._waiting: list[int] = []
        self._marked: list[bool] = []
        self._sums: States = np.zeros((len(self._pools), session.model.width), np.float32)
        self._pooled = 0

    @property
    def length(self) -> int:
        """Tokens of the text so far."""
        return self._session.length + len(self._waiting)

    @property
    def kept_bytes(self) -> int:
        """Of keys and values."""
        return self._session.kept_bytes

    def append(self, tokens: Sequence[int], *, pooled: bool = False) -> None:
        """The text goes on; ``pooled`` tokens count for ``pool``."""
        self._waiting.extend(tokens)
        self._marked.extend([pooled] * len(tokens))

    def fork(self) -> "Reader":
        """A second reader at the same place; the two go on independently."""
        self._read()
        twin = type(self)(self._session.fork(), self._pools)
        twin._sums, twin._pooled = self._sums, self._pooled
        return twin

    def states(self, tails: Sequence[Sequence[int]], layers: Sequence[int]) -> States:
        """What the model holds after each tail, were it to come next; the reader stays where it is."""
        self._read()
        return self._session.states([list(t) for t in tails], list(layers)).numpy()

    @property
    def pooled(self) -> int:
        """How many pooled tokens the text holds."""
        return self._pooled + sum(self._marked)

    def pool(self) -> States:
        """The mean over all pooled tokens of the state after each of the ``pools`` blocks, ``[pools, width]``."""
        self._read()
        return self._sums / np.float32(max(self._pooled, 1))

    def _read(self) -> None:
        if self._waiting:
            found = self._session.append(self._waiting, marked=self._marked, layers=self._pools)
            self._sums = self._sums + found.float().numpy()
            self._pooled += sum(self._marked)
            self._waiting, self._marked = [], []


@dataclass(frozen=True)
class LocalModel:
    """A causal language model on this machine, with the blocks that are needed and no more."""

    model: "LanguageModel"

    @classmethod
    def load(
        cls, name: str, *, layers: int | None = None, dtype: Literal["float32", "bfloat16"] = "float32"
    ) -> "LocalModel":
        """Load a model that ``gelert model pull`` fetched, a folder, or a hub id.

        Raises:
            MissingError: the extra ``local`` or the model is not installed; the message says the command.
        """
        try:
            from gelert.lm.model import load
        except ModuleNotFoundError as fault:
            if fault.name and fault.name.startswith("gelert"):
                raise
            raise missing_extra("a guard that runs on this machine", "local") from None
        return cls(load(name, layers=layers, dtype=dtype if dtype == "float32" or bfloat16_is_fast() else "float32"))

    @property
    def fingerprint(self) -> str:
        """Identifies the weights."""
        return self.model.fingerprint

    @property
    def elsewhere(self) -> "Callable[[], LocalModel]":
        """Loads the same blocks in another process, which must have the model under the same name or path.

        What it gives raises ModelError where the weights are others, and whatever ``load`` raises.
        """
        dtype = "bfloat16" if str(self.model.dtype) == "torch.bfloat16" else "float32"
        return partial(_same, reachable(self.model.name), self.model.layers, dtype, self.fingerprint)

    @cached_property
    def opening(self) -> list[int]:
        """The tokens that open a user's message, or a text where the model knows no chat form."""
        controls = self.model.controls
        for name, words in OPENINGS:
            token = self.model.tokenizer.convert_tokens_to_ids(name)
            if isinstance(token, int) and token in controls:
                return [token, *self.encode(words)]
        return []

    def encode(self, text: str) -> list[int]:
        """Tokens of untrusted text: control tokens in it become ordinary characters."""
        return self.model.encode(text)

    def reader(self, pools: Sequence[int] = ()) -> Reader:
        """A reader at the start of an empty text, which sums pooled tokens after each number of blocks in ``pools``."""
        from gelert.lm.session import Session

        return Reader(Session(self.model), pools)

    def begun(self, tokens: Sequence[int], pools: Sequence[int] = ()) -> Reader:
        """A reader of a text that begins with ``tokens``, none of them pooled.

        The last ``BEGINNINGS`` are kept: an agent's runs begin with the same tools.
        """
        key = (tuple(tokens), tuple(pools))
        kept = self._begun.pop(key, None)
        if kept is None:
            kept = self.reader(pools)
            kept.append(tokens)
            if len(self._begun) >= BEGINNINGS:
                del self._begun[next(iter(self._begun))]
        self._begun[key] = kept
        return kept.fork()

    @cached_property
    def _begun(self) -> dict[tuple[tuple[int, ...], tuple[int, ...]], Reader]:
        """By use, the latest last."""
        return {}


def _same(name: str, layers: int, dtype: Literal["float32", "bfloat16"], fingerprint: str) -> LocalModel:
    found = LocalModel.load(name, layers=layers, dtype=dtype)
    if found.fingerprint != fingerprint:
        raise ModelError(
            f"expected weights {fingerprint} of {name!r} on every worker, got {found.fingerprint}; fetch the same there"
        )
    return found


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 by itself; elsewhere float32 is faster, and no less exact."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # pyright: ignore[reportPrivateUsage] - no public question
