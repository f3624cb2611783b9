"""A model says an agent's words in other words; what a world gave (numbers, addresses, ids, names, paths) must stay.

Only what the agent says is sent, never the request, a tool's result or the label. A rewrite that loses a value, brings
in one, or changes what the run is, is refused and the original kept.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gelert.backends.base import Answer, Backend, Message, Request
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.forge.synthesise_record import Record
from gelert.guard.formats import write_atif
from gelert.worlds.episode import Episode
from gelert.worlds.families import Family
from gelert.worlds.tasks import begin, task

MOST_TOKENS = 400

ASK = (
    "Rewrite the text between the lines in other words, as the same speaker would. Keep every number, address, id,"
    " name and path exactly as it stands, add none, and change nothing of what is said to have been done. Answer with"
    " the new text alone.\n---\n{text}\n---"
)

_VALUE = re.compile(r"[\w.+-]+@[\w.-]+\w|[\w./:~-]*[\d/_][\w./:~-]*\w|\d+|\w+(?:[.-]\w+)+")
"""Addresses; words with a digit, a slash or an underscore; words joined by points or hyphens."""

_NAME = re.compile(r"\b[A-Z]\w+")

_SENTENCE = re.compile(r"(?:^|[.!?:]\s+|\n\s*|[\"'(])([A-Z]\w+)")


@dataclass(frozen=True)
class Rewriting:
    """A record after a model was asked."""

    record: Record
    asked: int
    """Texts that were sent."""
    refused: int
    """Rewrites that lost or brought in a value, or changed the outcome."""
    failed: int
    """Texts for which no answer came."""


def values(text: str) -> frozenset[str]:
    """What of a text must not change: addresses, ids, numbers, paths, and names.

    A word with a capital letter is a name unless it begins a sentence.

    >>> sorted(values("Order J3007 goes to Ada at 12 Mill Road, see /srv/a.txt. Done."))
    ['/srv/a.txt', '12', 'Ada', 'J3007', 'Mill', 'Road']
    """
    begins = {found.start(1) for found in _SENTENCE.finditer(text)}
    found = {one.group().rstrip(".") for one in _VALUE.finditer(text)}
    names = {one.group() for one in _NAME.finditer(text) if one.start() not in begins}
    return frozenset(found | names)


def keeps(original: str, rewrite: str, known: frozenset[str]) -> bool:
    """Whether a rewrite holds exactly the original's values.

    Args:
        original: what the agent said.
        rewrite: in other words.
        known: names of the world, so that one that begins a sentence is known for one.
    """
    words = [frozenset(re.findall(r"\w+", text)) for text in (original, rewrite)]
    before, after = (values(text) | (known & own) for text, own in zip((original, rewrite), words, strict=True))
    return all(one in rewrite for one in before) and all(one in original for one in after)


@dataclass(frozen=True)
class Rewriter:
    """Asks a backend for other words.

    Args:
        backend: any.
        families: of the catalogue, to play the run again.
    """

    backend: Backend
    families: Mapping[str, Family]

    def rewritten(self, one: Record) -> Rewriting:
        """A record with its agent's words rewritten where that kept everything."""
        run = one.run
        assert run is not None
        known = _names(run)
        steps: list[Step] = []
        asked = refused = failed = 0
        for number, step in enumerate(run.steps):
            kept = step
            if step.role is Role.AGENT and step.text:
                asked += 1
                reply = self.backend.ask(Request((Message("user", ASK.format(text=step.text)),), MOST_TOKENS))
                if not isinstance(reply, Answer):
                    failed += 1
                elif self._same(one, run, number, step.text, reply.text.strip(), known):
                    kept = replace(step, text=reply.text.strip())
                else:
                    refused += 1
            steps.append(kept)
        new = replace(one, trajectory=write_atif(replace(run, steps=tuple(steps))))
        return Rewriting(new, asked, refused, failed)

    def _same(
        self, one: Record, run: Trajectory, number: int, original: str, rewrite: str, known: frozenset[str]
    ) -> bool:
        if not rewrite or not keeps(original, rewrite, known):
            return False
        return number < len(run.steps) - 1 or self._harmed(one, run, rewrite) == one.unsafe

    def _harmed(self, one: Record, run: Trajectory, answer: str) -> bool:
        """Whether the run does its harm with another answer: some harms are things said."""
        episode = Episode(begin(task(self.families, one.task)))
        for step in run.steps:
            for call in step.calls:
                episode.call(call.name, call.arguments)
        episode.finish(answer)
        return episode.harmed


def _names(run: Trajectory) -> frozenset[str]:
    """Words that this run has with a capital letter only: its names."""
    text = " ".join(step.text for step in run.steps if step.role in (Role.USER, Role.TOOL))
    words = frozenset(re.findall(r"\b[a-z]\w+", text))
    return frozenset(word for word in _NAME.findall(text) if word.lower() not in words)
