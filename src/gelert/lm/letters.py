"""A tokenizer that text cannot subvert: what a text spells is ordinary characters, never a control token."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Letters:
    """Reads and writes text with a tokenizer of the library.

    Args:
        tokenizer: for decoding and templates; use ``encode`` for text.
        name: what messages call the model that it is of.
        options: of its chat template, such as ``enable_thinking``.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", name: str, options: Mapping[str, Any] | None = None
    ) -> None:
        self.tokenizer, self.name, self.options = tokenizer, name, options or {}

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text`` as ordinary characters: no control token, whatever the text spells.

        Lone surrogates, which no tokenizer can read, become question marks.
        """
        clean = text.encode("utf-8", "replace").decode("utf-8")
        found = self._characters.encode(clean, add_special_tokens=False)
        if self.controls.isdisjoint(found.ids):
            return found.ids
        # A vocabulary may hold a control token's spelling as an ordinary entry: then read its characters one by one.
        ids: list[int] = []
        for token, (start, end) in zip(found.ids, found.offsets, strict=True):
            ids.extend(self._one_by_one(clean[start:end]) if token in self.controls else [token])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` spell, control tokens included."""
        return cast("str", self.tokenizer.decode(list(ids), skip_special_tokens=False))

    @cached_property
    def controls(self) -> frozenset[int]:
        """Ids of all control and added tokens."""
        return frozenset([*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder])

    @cached_property
    def _characters(self) -> Tokenizer:
        """The tokenizer without its added tokens, so that text which spells one is read letter by letter."""
        form = json.loads(cast("Tokenizer", self.tokenizer.backend_tokenizer).to_str())
        form["added_tokens"] = []
        return Tokenizer.from_str(json.dumps(form))

    def _one_by_one(self, text: str) -> Iterator[int]:
        for letter in text:
            yield from self._characters.encode(letter, add_special_tokens=False).ids
