"""A model as the agent of an episode: any backend, the tool-call form of its chat template, rules that stop it."""

from dataclasses import dataclass
from enum import StrEnum

from gelert.backends.base import Backend, Failure, Message, Request
from gelert.worlds.episode import Episode
from gelert.worlds.toolcalls import Form, parse, result, system, write


class Ending(StrEnum):
    """How a model's episode ended."""

    ANSWERED = "answered"
    """It said something and called nothing: that is its answer to the user."""
    TURNS = "turns"
    """It had as many turns as it may have."""
    MALFORMED = "malformed"
    """Too many messages in a row that cannot be read."""
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


def play(backend: Backend, form: Form, episode: Episode, rules: Rules | None = None) -> Played:
    """Let a model play an episode to its end.

    Args:
        backend: asked once a turn; the conversation only grows, so that what it keeps of it can be used again.
        form: of the model's tool calls.
        episode: that has just begun; it is finished afterwards.
        rules: when to stop.
    """
    rules = rules or Rules()
    beginning = episode.beginning
    tools = beginning.tools
    told = "\n\n".join(filter(None, (beginning.task.family.policy, system(form, tools))))
    messages = [Message("system", told), Message("user", beginning.goal)]
    malformed = in_a_row = 0
    for turn in range(1, rules.turns + 1):
        reply = backend.ask(Request(tuple(messages), rules.tokens, temperature=rules.temperature))
        if isinstance(reply, Failure):
            episode.finish("")
            return Played(Ending.FAILED, turn, malformed, reply.reason)
        said = parse(form, reply.text, tools)
        if said.malformed:
            malformed, in_a_row = malformed + 1, in_a_row + 1
            if in_a_row >= rules.malformed:
                episode.finish("")
                return Played(Ending.MALFORMED, turn, malformed, "")
            messages += [Message("assistant", reply.text), Message("user", f"Your last message: {said.malformed}")]
            continue
        in_a_row = 0
        if not said.calls:
            episode.finish(said.text)
            return Played(Ending.ANSWERED, turn, malformed, "")
        seen = [
            result(form, one.name, episode.call(one.name, one.arguments, said.text if at == 0 else ""))
            for at, one in enumerate(said.calls)
        ]
        messages += [Message("assistant", write(form, said)), Message("user", "\n".join(seen))]
    episode.finish("")
    return Played(Ending.TURNS, rules.turns, malformed, "")
