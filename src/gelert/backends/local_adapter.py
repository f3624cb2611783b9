"""A local model with a low-rank adapter, asked for the log-probabilities of answers after a text that is kept.

The door to ``gelert.lm`` for guards that answer in words: numbers and text leave, no tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gelert.backends.local import LocalModel

if TYPE_CHECKING:
    from gelert.lm.bank import Bank
    from gelert.lm.session import Session

Acts = Literal["answer", "all"]
"""Where an adapter acts: from the question on, or on all tokens."""


@dataclass(frozen=True)
class AdaptedModel:
    """A frozen model and one adapter."""

    local: LocalModel
    bank: "Bank"
    """With that adapter alone."""
    acts: Acts = "answer"

    @classmethod
    def load(cls, local: LocalModel, folder: Path, question: Sequence[int], acts: Acts) -> "AdaptedModel":
        """The adapter in ``folder``, on a model that is loaded.

        Args:
            local: the model, with all its blocks.
            folder: in PEFT's format.
            question: the tokens from which on it acts.
            acts: whether it does, or acts on all.

        Raises:
            ModelError: there is no such adapter, or it belongs to another model or question.
        """
        from gelert.lm.peft import load

        return cls(local, load(local.model, [folder], invocation=question if acts == "answer" else ()), acts)

    def text(self) -> "AskedText":
        """An empty text to be read and asked about."""
        from gelert.lm.session import Session

        if self.acts == "answer":
            return AskedText(self, Session(self.local.model))
        return AskedText(self, Session(self.local.model, linear=self.bank.linear([0])))


class AskedText:
    """A text whose keys and values are kept; questions are asked of it and leave no trace.

    Args:
        model: reads and answers.
        session: of the model, empty.
    """

    def __init__(self, model: AdaptedModel, session: "Session") -> None:
        self._model, self._session = model, session
        self._ids: list[int] = []

    def read(self, ids: Sequence[int]) -> None:
        """Hold this text; what it has in common with the one held before is not read again."""
        pairs = zip(self._ids, ids, strict=False)
        shared = next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(self._ids), len(ids)))
        self._session.rewind(shared)
        self._session.append(ids[shared:])
        self._ids = list(ids)

    def log_probs(self, tail: Sequence[int], labels: Sequence[Sequence[int]]) -> list[float]:
        """The log-probability of each label after the text and ``tail``, summed over its tokens."""
        return self._asking().score(labels, tail).tolist()

    def greedy(self, tail: Sequence[int], *, most: int, until: str) -> str:
        """The likeliest tokens after the text and ``tail``, at most so many, up to the text ``until``."""
        from gelert.lm.session import greedy

        session, prompt, said = self._asking(), list(tail), list[int]()
        while len(said) < most:
            said += greedy(session, prompt, min(_AT_ONCE, most - len(said)))
            prompt = said[-1:]
            text = self._model.local.model.decode(said)
            if until in text:
                return text.partition(until)[0]
        return self._model.local.model.decode(said)

    def _asking(self) -> "Session":
        session = self._session.fork()
        session.linear = self._model.bank.linear([0])
        return session


_AT_ONCE = 16
"""Tokens between two looks whether the answer has ended."""
