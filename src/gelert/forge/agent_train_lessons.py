"""Demonstrations as tokens, to the token as ``gelert.worlds.model_agent`` feeds a model and reads what it says.

The agent's own messages are learnt, with the token that ends each; all else is only read. A conversation is one lesson
where the chat template only ever adds to what it has told; where it tells earlier turns otherwise later (as templates
do that drop thoughts), a lesson begins anew, so that every message is learnt behind what comes before it in play.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, cast

from gelert.backends.base import Failure, Message
from gelert.backends.local_chat import opening
from gelert.core.example import Refusal
from gelert.core.trajectory import Role, Step, ToolSpec, Trajectory
from gelert.worlds.model_agent import Rules
from gelert.worlds.toolcalls import Form, Said, parse, result, system, write

if TYPE_CHECKING:
    from gelert.lm.model import LanguageModel

MOST_TURNS = Rules().turns

UNLEARNT = -100
"""The label of a token whose loss does not count, as torch has it."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Tokens, and for each its label: the token itself or ``UNLEARNT``."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]

    def row(self) -> dict[str, list[int]]:
        """As a row of a data set for TRL."""
        return {"input_ids": list(self.tokens), "labels": list(self.labels)}


def turns(run: Trajectory) -> int:
    """Messages of the agent."""
    return sum(step.role is Role.AGENT for step in run.steps)


def conversation(run: Trajectory, form: Form) -> list[Message]:
    """A run as the messages between a model and what plays with it.

    Raises:
        InputError: the arguments of a call are no JSON object.
    """
    policies = [step.text for step in run.steps if step.role is Role.SYSTEM]
    found = [Message("system", "\n\n".join(filter(None, (*policies, system(form, run.tools)))))]
    for role, steps in groupby(run.steps, key=lambda step: step.role):
        match role:
            case Role.SYSTEM:
                continue
            case Role.AGENT:
                found += [Message("assistant", write(form, Said(step.text, step.calls))) for step in steps]
            case Role.TOOL:
                found.append(Message("user", _results(form, list(steps))))
            case Role.USER | Role.RUNTIME:
                found += [Message("user", step.text) for step in steps]
    return found


def lessons(run: Trajectory, form: Form, model: "LanguageModel", most_tokens: int) -> list[Lesson] | Refusal:
    """What there is to learn from a run, or why it is not learnt from.

    A run of more turns than an agent has in play teaches what never comes to its end, and is refused.

    Args:
        run: a demonstration.
        form: of the model's tool calls.
        model: whose tokens and chat template they are; its blocks are not run.
        most_tokens: of a lesson.
    """
    bad = next((call.name for step in run.steps for call in step.calls if call.parsed() is None), None)
    if bad is not None:
        return _refused(run, f"expected JSON objects as arguments, got other ones in a call of {bad!r}")
    unread = next((step for step in run.steps if not _reads_back(form, step, run.tools)), None)
    if unread is not None:
        return _refused(run, f"expected messages that read as they were meant, got {unread.text[:80]!r}")
    if turns(run) > MOST_TURNS:
        return _refused(run, f"expected at most the {MOST_TURNS} turns that an agent has in play, got {turns(run)}")
    found = _lessons(conversation(run, form), model)
    if isinstance(found, Failure):
        return _refused(run, found.reason)
    longest = max((len(one.tokens) for one in found), default=0)
    if not 0 < longest <= most_tokens:
        return _refused(run, f"expected messages of an agent in at most {most_tokens} tokens, got {longest}")
    return found


def _lessons(messages: Sequence[Message], model: "LanguageModel") -> list[Lesson] | Failure:
    found: list[Lesson] = []
    tokens, labels = list[int](), list[int]()
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = opening(model, messages[:at])
        if isinstance(before, Failure):
            return before
        if before[: len(tokens)] != tokens:
            found.append(Lesson(tuple(tokens), tuple(labels)))
            tokens, labels = [], []
        said = [*model.encode(message.content), cast("int", model.tokenizer.eos_token_id)]
        labels += [UNLEARNT] * (len(before) - len(tokens)) + said
        tokens = before + said
    return [*found, Lesson(tuple(tokens), tuple(labels))] if tokens else found


def _reads_back(form: Form, step: Step, tools: Sequence[ToolSpec]) -> bool:
    """Whether what an agent says would be taken in play for what it is, and told again as the same message."""
    if step.role is not Role.AGENT:
        return True
    text = write(form, Said(step.text, step.calls))
    said = parse(form, text, tools)
    return not said.malformed and len(said.calls) == len(step.calls) and (not said.calls or write(form, said) == text)


def _results(form: Form, steps: Sequence[Step]) -> str:
    return "\n".join(result(form, step.tool_name, step.text) for step in steps)


def _refused(run: Trajectory, reason: str) -> Refusal:
    return Refusal(run.origin.path, run.origin.record, None, reason)
