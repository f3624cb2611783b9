"""A model as the agent of an episode: any backend, the tool-call form of its chat template, rules that stop it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol

from typing_extensions import TypeVar

from gelert.backends.base import Backend, Failure, Message, Request
from gelert.core.trajectory import ToolSpec
from gelert.worlds.episode import Episode
from gelert.worlds.toolcalls import Form, Said, parse, result, system, write


class Ending(StrEnum):
    """How a model's episode ended."""

    ANSWERED = "answered"
    """It said something and called nothing: that is its answer to the user."""
    TURNS = "turns"
    """It had as many turns as it may have."""
    MALFORMED = "malformed"
    """Too many messages in a row that cannot be read."""
    FULL = "full"
    """There is no room for another message."""
    FAILED = "failed"
    """The backend gave no answer."""


@dataclass(frozen=True)
class Rules:
    """When to stop a model; as published for AgentDoG 1.5's environments."""

    turns: int = 15
    malformed: int = 2
    """Unreadable messages in a row."""
    tokens: int = 512
    """Of one message."""
    temperature: float = 0.0


@dataclass(frozen=True)
class Played:
    """What became of it; the episode itself says what was done."""

    ending: Ending
    turns: int
    malformed: int
    """Messages that could not be read."""
    reason: str
    """Of the backend, where it failed."""


class Told(Protocol):
    """What an agent is told at the beginning."""

    @property
    def policy(self) -> str:
        """May be empty."""
        ...

    @property
    def goal(self) -> str:
        """Of the user."""
        ...

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """That it may call."""
        ...


class Playable(Protocol):
    """An ``Episode``, or one that is held elsewhere."""

    @property
    def beginning(self) -> Told:
        """How it begins."""
        ...

    def call(self, tool: str, arguments: str | Mapping[str, object], said: str = "") -> str:
        """Call a tool; gives the result as JSON text."""
        ...

    def finish(self, answer: str) -> None:
        """End with an answer to the user."""
        ...


Place = TypeVar("Place", bound=Playable, default=Episode)


class Conversation(Generic[Place]):
    """A model's side of an episode, message by message: what it has been told, and what its next message does.

    Args:
        form: of the model's tool calls.
        episode: that has just begun; it is finished when the conversation has ended.
        rules: when to stop.
    """

    __slots__ = ("_form", "_in_a_row", "_rules", "_tools", "ending", "episode", "malformed", "messages", "turns")

    def __init__(self, form: Form, episode: Place, rules: Rules | None = None) -> None:
        beginning = episode.beginning
        self._form, self._rules, self._tools = form, rules or Rules(), beginning.tools
        told = "\n\n".join(filter(None, (beginning.policy, system(form, self._tools))))
        self.episode = episode
        self.messages = [Message("system", told), Message("user", beginning.goal)]
        """It only grows, so that what a backend keeps of it can be used again."""
        self.ending: Ending | None = None
        self.turns = self.malformed = self._in_a_row = 0

    def take(self, text: str) -> bool:
        """Take the model's next message; whether it could be read.

        Args:
            text: the message, without the token that ends the turn.
        """
        self.turns += 1
        said = parse(self._form, text, self._tools)
        if said.malformed:
            self._malformed(text, said)
        elif said.calls:
            self._in_a_row = 0
            self._call(said)
        else:
            self.end(Ending.ANSWERED, said.text)
        if self.ending is None and self.turns >= self._rules.turns:
            self.end(Ending.TURNS)
        return not said.malformed

    def end(self, ending: Ending, answer: str = "") -> None:
        """No more messages."""
        self.ending = ending
        self.episode.finish(answer)

    def _malformed(self, text: str, said: Said) -> None:
        self.malformed += 1
        self._in_a_row += 1
        if self._in_a_row >= self._rules.malformed:
            self.end(Ending.MALFORMED)
        else:
            self.messages += [Message("assistant", text), Message("user", f"Your last message: {said.malformed}")]

    def _call(self, said: Said) -> None:
        seen = [
            result(self._form, one.name, self.episode.call(one.name, one.arguments, said.text if at == 0 else ""))
            for at, one in enumerate(said.calls)
        ]
        self.messages += [Message("assistant", write(self._form, said)), Message("user", "\n".join(seen))]


def play(backend: Backend, form: Form, episode: Playable, rules: Rules | None = None) -> Played:
    """Let a model play an episode to its end.

    Args:
        backend: asked once a turn.
        form: of the model's tool calls.
        episode: that has just begun; it is finished afterwards.
        rules: when to stop.
    """
    rules = rules or Rules()
    talk = Conversation(form, episode, rules)
    reason = ""
    while talk.ending is None:
        reply = backend.ask(Request(tuple(talk.messages), rules.tokens, temperature=rules.temperature))
        if isinstance(reply, Failure):
            reason = reply.reason
            talk.end(Ending.FAILED)
        else:
            talk.take(reply.text)
    turns = talk.turns + (talk.ending is Ending.FAILED)
    return Played(talk.ending, turns, talk.malformed, reason)
