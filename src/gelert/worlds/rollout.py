"""An episode as a trainer sees it: tokens in, tokens out.

What a model has said stands in its context as it said it, token for token; nothing is told twice or rendered anew. The
mask says which tokens are the model's own and may be learnt from: not what it was told, no message that could not be
read or that was cut, and nothing of an episode that such messages have ended (arXiv:2605.29801, application 1).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, cast, overload

from gelert.backends.base import Failure
from gelert.backends.local_chat import ends, following, opening
from gelert.core.errors import InputError
from gelert.worlds.episode import Episode
from gelert.worlds.model_agent import Conversation, Ending, Place, Rules
from gelert.worlds.tasks import Beginning
from gelert.worlds.toolcalls import Form

if TYPE_CHECKING:
    from gelert.lm.letters import Letters
    from gelert.lm.model import LanguageModel


class Rollout(Generic[Place]):
    """One episode of a model.

    Args:
        model: whose tokens and chat template they are, or its tokenizer; no block is run.
        form: of its tool calls.
        beginning: of the task, or an episode that is held elsewhere and has just begun.
        rules: when to stop.
        most: tokens of the context after which there is no other message.

    Raises:
        InputError: the chat template cannot tell the messages.
    """

    __slots__ = ("_ends", "_mask", "_model", "completion", "cut", "most", "prompt", "talk")

    @overload
    def __init__(
        self: "Rollout[Episode]",
        model: "LanguageModel | Letters",
        form: Form,
        beginning: Beginning,
        rules: Rules | None = None,
        most: int | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        model: "LanguageModel | Letters",
        form: Form,
        beginning: Place,
        rules: Rules | None = None,
        most: int | None = None,
    ) -> None: ...

    def __init__(
        self,
        model: "LanguageModel | Letters",
        form: Form,
        beginning: Beginning | Place,
        rules: Rules | None = None,
        most: int | None = None,
    ) -> None:
        self._model, self._ends, self.most = model, ends(model), most
        place = Episode(beginning) if isinstance(beginning, Beginning) else beginning
        self.talk = Conversation(form, cast("Place", place), rules)
        self.prompt = _told(opening(model, self.talk.messages))
        self.completion: list[int] = []
        """All behind the prompt: what the model said and what it was told."""
        self._mask: list[int] = []
        self.cut = 0
        """Messages that came to no end."""

    @property
    def context(self) -> list[int]:
        """The tokens before the next message."""
        return self.prompt + self.completion

    @property
    def over(self) -> bool:
        """Whether there are no more messages."""
        return self.talk.ending is not None

    @property
    def mask(self) -> list[int]:
        """For each token of the completion 1 if it may be learnt from, else 0."""
        return [0] * len(self._mask) if self.talk.ending is Ending.MALFORMED else list(self._mask)

    def take(self, tokens: Sequence[int]) -> list[int]:
        """Take the model's next message; gives the tokens that it is told then, none if the episode is over.

        Args:
            tokens: of the message as they were generated, with the one that ends the turn if it came to that.
        """
        ended = bool(tokens) and tokens[-1] in self._ends
        own = list(tokens[:-1] if ended else tokens)
        self.cut += not ended
        readable = self.talk.take(self._model.decode(own))
        self._add(tokens, own=readable and ended)
        if self.over:
            return []
        told = _told(following(self._model, self.talk.messages))
        if ended and told[0] in self._ends:
            del told[0]
        if self.most is not None and len(self.context) + len(told) >= self.most:
            self.talk.end(Ending.FULL)
            return []
        self._add(told, own=False)
        return told

    def _add(self, tokens: Sequence[int], *, own: bool) -> None:
        self.completion += tokens
        self._mask += [int(own)] * len(tokens)


def _told(tokens: list[int] | Failure) -> list[int]:
    if isinstance(tokens, Failure):
        raise InputError(tokens.reason)
    return tokens
