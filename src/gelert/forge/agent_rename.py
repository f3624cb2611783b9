"""Runs told of other names and numbers: what a small model has to copy from them it cannot have remembered.

A world has a dozen rows of a kind, so a model of a few million weights would learn by heart which row is whose. In a
renamed run every name stands for another one throughout, and every digit but 0 for another digit.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random

from gelert.core.seeds import stream
from gelert.core.trajectory import Role, Step, Trajectory

COMMON = 0.3
"""A word that agents say in a larger share of a family's runs is no name."""

_NAME = re.compile(r"\b[A-Z][a-z]{2,}\b")
_ADDRESS = re.compile(r"[\w.+-]+@[\w.-]+")
_SMALL = re.compile(r"[a-z]{3,}")
_DIGITS = "123456789"


def with_renamed(runs: Sequence[Trajectory], copies: int, seed: int) -> Iterator[Trajectory]:
    """Each run, and behind it so many of it with other names and digits.

    Args:
        runs: of any worlds, whose names stand for one another.
        copies: of each.
        seed: of the draws.
    """
    known, random = names(runs), stream(seed, "renamed")
    for run in runs:
        yield run
        for _ in range(copies):
            yield renamed(run, known, random)


def names(runs: Sequence[Trajectory]) -> list[str]:
    """Words that tools tell and that differ from run to run, in order."""
    told = {word for run in runs for step in run.steps if step.role is Role.TOOL for word in _NAME.findall(step.text)}
    families: dict[str, list[set[str]]] = defaultdict(list)
    for run in runs:
        own = {word for step in run.steps if step.role is Role.AGENT for word in _NAME.findall(_said(step))}
        families["/".join(run.trajectory_id.split("/")[:2])].append(own)
    common = {
        word
        for said in families.values()
        for word, count in Counter(word for own in said for word in own).items()
        if count > COMMON * len(said)
    }
    policies = {
        word for run in runs for step in run.steps if step.role is Role.SYSTEM for word in _NAME.findall(step.text)
    }
    return sorted(told - common - policies)


def renamed(run: Trajectory, known: Sequence[str], random: Random) -> Trajectory:
    """The run with other names and digits, the same ones everywhere.

    Args:
        run: to be told otherwise; its policy and its tools stay as they are.
        known: names that stand for one another.
        random: of the draw.
    """
    others = dict(zip(known, random.sample(known, len(known)), strict=True))
    digits = str.maketrans(_DIGITS, "".join(random.sample(_DIGITS, len(_DIGITS))))

    def told(text: str) -> str:
        return _otherwise(text, others).translate(digits)

    steps = (
        step if step.role is Role.SYSTEM else _step(step, told(step.text), map(told, _arguments(step)))
        for step in run.steps
    )
    return replace(run, steps=tuple(steps))


def _step(step: Step, text: str, arguments: Iterable[str]) -> Step:
    calls = (replace(call, arguments=given) for call, given in zip(step.calls, arguments, strict=True))
    return replace(step, text=text, calls=tuple(calls))


def _otherwise(text: str, others: Mapping[str, str]) -> str:
    small = {name.lower(): other.lower() for name, other in others.items()}
    text = _ADDRESS.sub(lambda found: _SMALL.sub(lambda word: small.get(word[0], word[0]), found[0]), text)
    return _NAME.sub(lambda found: others.get(found[0], found[0]), text)


def _arguments(step: Step) -> list[str]:
    return [call.arguments for call in step.calls]


def _said(step: Step) -> str:
    return " ".join([step.text, *_arguments(step)])
