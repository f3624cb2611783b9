"""Text that an agent runtime put inside a user's message, told apart from what the user wrote."""

import re
from dataclasses import dataclass

from gelert.core.trajectory import Provenance, Role, Step

_FENCES = {
    "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>": "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>",
    "<system-reminder>": "</system-reminder>",
    "<environment_context>": "</environment_context>",
    "<user_instructions>": "</user_instructions>",
    "<hook_prompt": "</hook_prompt>",
    "<turn_aborted>": "</turn_aborted>",
}
_OPENING = re.compile("|".join(map(re.escape, _FENCES)))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a message, and whether the runtime wrote it."""

    text: str
    runtime: bool


def spans(text: str) -> list[Span]:
    """The stretches of ``text`` in order; together they are ``text``. A fence that never closes reaches to the end."""
    found: list[Span] = []
    start = 0
    while opening := _OPENING.search(text, start):
        closing = _FENCES[opening.group()]
        end = text.find(closing, opening.end())
        end = len(text) if end < 0 else end + len(closing)
        _keep(found, Span(text[start : opening.start()], runtime=False))
        _keep(found, Span(text[opening.start() : end], runtime=True))
        start = end
    _keep(found, Span(text[start:], runtime=False))
    return found


def _keep(found: list[Span], span: Span) -> None:
    if span.text.strip() or (not found and span.text):
        found.append(span)
    elif span.text:
        found[-1] = Span(found[-1].text + span.text, found[-1].runtime)


def user_steps(text: str, provenance: Provenance) -> list[Step]:
    """A user's message as steps: the user's words and the runtime's each on their own."""
    if not text:
        return [Step(Role.USER, "", provenance=provenance)]
    return [Step(Role.RUNTIME if s.runtime else Role.USER, s.text, provenance=provenance) for s in spans(text)]
