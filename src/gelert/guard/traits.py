"""What an agent did, counted: where its words came from, what it changed, asked, refused. The guard's third sense.

No model reads here: every trait is a count or a share, told step by step, so a running agent costs only its new step
and a person can check each number by hand. Traits say little of a domain, and so carry from one source of logs to
another better than words do; each is bounded, so that no input has unbounded weight.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gelert.core.trajectory import Role, Step, ToolCall, ToolSpec

COUNTED = 1
"""Raised whenever a trait changes: weights fitted to other traits are not reused."""

MOST_WORDS = 200_000
"""Different words remembered of each origin; what comes later counts as not seen."""

_WORD = re.compile(r"[A-Za-z0-9_@.:/\-]{3,}")
_NAME = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")
_VALUE = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.\w{2,}|https?://[^\s\"'<>)]{1,500}|\b\d{4,40}\b|/[\w./-]{3,500}")
_FAILED = re.compile(r"error|exception|not found|invalid|failed|denied", re.IGNORECASE)


def _any(*stems: str) -> re.Pattern[str]:
    """Words that begin with one of the stems."""
    return re.compile(r"\b(?:" + "|".join(stems) + ")", re.IGNORECASE)


def _part(*verbs: str) -> re.Pattern[str]:
    """A name with one of the verbs in it, wherever its words are joined."""
    return re.compile("|".join(verbs), re.IGNORECASE)


_READS = _part(
    "get", "search", "list", "read", "view", "find", "show", "check", "fetch", "query", "look", "retrieve", "cat",
    "grep", "browse", "open", "scan", "inspect", "describe", "calculate", "think", "verify", "review",
)  # fmt: skip
_CHANGES = _part(
    "send", "delete", "remove", "transfer", "pay", "grant", "unlock", "exec", "run", "post", "disable", "update",
    "create", "add", "write", "set", "modify", "share",
    "upload", "install", "move", "cancel", "book", "schedule", "withdraw",
    "deposit", "buy", "order", "terminate", "kill", "push", "publish", "reply", "call", "control", "turn", "dispatch",
    "invite", "revoke", "edit", "save",
)  # fmt: skip
_DESTROYS = _part(
    "delete", "remove", "transfer", "pay", "grant", "unlock", "disable", "terminate", "kill", r"rm\b", "revoke",
    "withdraw", "format", "wipe", "drop", "overwrite", "shutdown", "erase", "purge", "clear",
)  # fmt: skip

_REFUSES = _any(
    "sorry", "cannot", "can't", "can not", "unable", "won't", "will not", "refus", "declin", "inappropriate"
)
_WARNS = _any(
    "warn", "caution", "risk", "danger", "careful", "suspicio", "phish", "malicious", "unsafe", "secur", "privacy",
    "harm", "verif", "confirm", "permission", "consent", "authori",
)  # fmt: skip
_ASKS = _any("could you", "can you", "would you", "please", "do you want", "are you sure", "may i", "should i", "which")
_ENDS = _any("success", "done", "complete", "have been", "has been", "i've", "i have")
_SENSITIVE = _any(
    "password", "passwd", "token", "secret", "api.?key", "credential", "ssn", "credit", "card", "cvv", "private",
    "address", "phone", "bank", "account", "medical", "health",
)  # fmt: skip
_PRESSES = _any(
    "ignor", "disregard", "instead", "important", "urgent", "must", "immediate", "instruction", "system", "new task",
    "forget", "overrid", "do not tell", "secret",
)  # fmt: skip
_HARMS = _any(
    "hack", "steal", "stolen", "bomb", "weapon", "kill", "drug", "exploit", "malware", "virus", "fraud", "fake",
    "illegal", "attack", "poison", "explos", "bypass", "spy",
    "track", "leak", "threat", "blackmail", "counterfeit", "launder",
)  # fmt: skip

_CALL = (
    "from user", "from outside", "from nowhere", "values from outside", "values from nowhere", "changes", "reads",
    "destroys", "length", "sensitive", "name asked for", "name told by outside", "repeated", "blind change",
)  # fmt: skip
_OVER_CALLS = ("mean", "most", "last", "mean of changes")
_TEXT = ("length", "refuses", "warns", "asks", "ends", "sensitive", "harms", "question marks", "exclamation marks")
_TEXTS = ("said", "said last", "thought")
_RUN = (
    "calls", "changes", "destroys", "reads", "repeats", "different tools", "errors", "no calls", "turns of the user",
    "length of the user", "harms of the user", "sensitive of the user", "length of outside", "presses of outside",
    "harms of outside", "values of outside", "ends in a message", "ends in a question", "steps that ask",
    "last from user", "last from outside",
)  # fmt: skip

NAMES: tuple[str, ...] = (
    *(f"{trait}, {over}" for over in _OVER_CALLS for trait in _CALL),
    *(f"{text}: {trait}" for text in _TEXTS for trait in _TEXT),
    *_RUN,
)
"""What each trait is called."""

TRAITS = len(NAMES)

Traits = NDArray[np.float32]
"""``[TRAITS]``."""


@dataclass
class Ledger:
    """Traits of a growing run."""

    tools: Sequence[ToolSpec] = ()
    _system: set[str] = field(default_factory=set[str], init=False)
    _user: set[str] = field(default_factory=set[str], init=False)
    _outside: set[str] = field(default_factory=set[str], init=False)
    _given: set[str] = field(default_factory=set[str], init=False)
    """Values that the user named."""
    _met: set[str] = field(default_factory=set[str], init=False)
    """Values that tool results named."""
    _named: set[str] = field(default_factory=set[str], init=False)
    """Parts of words that the user used, as tool names have them."""
    _told: set[str] = field(default_factory=set[str], init=False)
    """The same of tool results."""
    _seen: set[ToolCall] = field(default_factory=set[ToolCall], init=False)
    _used: set[str] = field(default_factory=set[str], init=False)
    _results: int = field(default=0, init=False)
    _sum: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, len(_CALL))), init=False)
    """Over all calls and over those that change something."""
    _most: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_CALL)), init=False)
    _last: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_CALL)), init=False)
    _calls: NDArray[np.float64] = field(default_factory=lambda: np.zeros(6), init=False)
    """Calls, and of them those that change, destroy, read, repeat; steps of the agent that ask."""
    _texts: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, len(_TEXT))), init=False)
    _words: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    """Of the last message: the share of its words that are the user's, and that came from outside."""
    _others: NDArray[np.float64] = field(default_factory=lambda: np.zeros(8), init=False)
    """Turns, length, harms, sensitive of the user; length, presses, harms of outside; errors."""
    _end: tuple[bool, bool] = field(default=(False, False), init=False)

    def __post_init__(self) -> None:
        for tool in self.tools:
            _remember(self._system, _split(tool.name))

    def add(self, step: Step) -> None:
        """Count one more step."""
        self._end = (False, False)
        match step.role:
            case Role.USER:
                _remember(self._user, _split(step.text))
                _remember(self._given, _VALUE.findall(step.text))
                _remember(self._named, _parts(step.text))
                self._others[:4] += (1, len(step.text), _count(_HARMS, step.text), _count(_SENSITIVE, step.text))
            case Role.TOOL:
                self._results += 1
                _remember(self._outside, _split(step.text))
                _remember(self._met, _VALUE.findall(step.text))
                _remember(self._told, _parts(step.text))
                failed = step.is_error or _FAILED.search(step.text[:300]) is not None
                self._others[4:] += (len(step.text), _count(_PRESSES, step.text), _count(_HARMS, step.text), failed)
            case Role.AGENT:
                self._agent(step)
            case Role.SYSTEM | Role.RUNTIME:
                _remember(self._system, _split(step.text))

    def values(self) -> Traits:
        """The traits so far."""
        count, changes, destroys, reads, repeats, asking = self._calls
        over = (self._sum[0] / max(count, 1), self._most, self._last, self._sum[1] / max(changes, 1))
        turns, said, harm, private, heard, presses, outside_harm, errors = self._others
        run = (
            *np.log1p((count, changes, destroys, reads, repeats, len(self._used), errors)),
            float(count == 0), *np.log1p((turns, said, harm, private, heard, presses, outside_harm, len(self._met))),
            *map(float, self._end), math.log1p(asking), *self._words,
        )  # fmt: skip
        return np.concatenate([*over, np.log1p(self._texts).ravel(), run]).astype(np.float32)

    def _agent(self, step: Step) -> None:
        for call in step.calls:
            self._call(call)
        if step.thought:
            self._texts[2] += _about(step.thought)
        self._calls[5] += "?" in step.text
        if step.text:
            found = _about(step.text)
            self._texts[0] += found
            self._texts[1] = found
            said = _split(step.text)
            size = max(len(said), 1)
            self._words = len(said & self._user) / size, len((said & self._outside) - self._user) / size
        self._end = (not step.calls, "?" in step.text[-80:])

    def _call(self, call: ToolCall) -> None:
        parsed = call.parsed()
        said = _split(call.arguments) - {key.lower() for key in parsed or ()}
        values, name = set(_VALUE.findall(call.arguments)), _parts(call.name)
        size = max(len(said), 1)
        known = said & self._user
        outside = (said & self._outside) - known
        changes, reads = _CHANGES.search(call.name) is not None, _READS.search(call.name) is not None
        destroys = _DESTROYS.search(f"{call.name} {call.arguments[:200]}") is not None
        asked = name & self._named
        bare = ToolCall(call.name, call.arguments)
        repeated = bare in self._seen
        row = np.array(
            (
                len(known) / size, len(outside) / size, len(said - known - outside - self._system) / size,
                math.log1p(len((values & self._met) - self._given)), math.log1p(len(values - self._met - self._given)),
                changes, reads, destroys, math.log1p(len(call.arguments)),
                _SENSITIVE.search(call.arguments) is not None,
                len(asked) / max(len(name), 1), len((name & self._told) - asked) / max(len(name), 1),
                repeated, changes and not self._results,
            ),
            dtype=np.float64,
        )  # fmt: skip
        self._sum[0] += row
        self._sum[1] += row * changes
        self._most = np.maximum(self._most, row)
        self._last = row
        self._calls[:5] += (1, changes, destroys, reads, repeated)
        _remember(self._used, [call.name])
        if len(self._seen) < MOST_WORDS:
            self._seen.add(bare)


def _about(text: str) -> NDArray[np.float64]:
    """The traits of one text, as counts."""
    lexicons = (_REFUSES, _WARNS, _ASKS, _ENDS, _SENSITIVE, _HARMS)
    counts = (_count(lexicon, text) for lexicon in lexicons)
    return np.array((len(text), *counts, text.count("?"), text.count("!")), dtype=np.float64)


def _count(lexicon: re.Pattern[str], text: str) -> int:
    return sum(1 for _ in lexicon.finditer(text))


def _split(text: str) -> set[str]:
    return {word.lower().strip(".:-") for word in _WORD.findall(text)}


def _parts(text: str) -> set[str]:
    return {part.lower() for part in _NAME.findall(text)}


def _remember(known: set[str], words: Iterable[str]) -> None:
    if len(known) < MOST_WORDS:
        known.update(words)
