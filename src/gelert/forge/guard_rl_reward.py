"""What an answer of the fine contract is worth: one binary reward per axis, none of them without a reasoning block.

The answer is read by the parser that serves it, so what earns a reward here is what a guard would show its user. The
reward of one axis is 1 if the answer names the run's leaf there; all are 0 if the answer was cut, cannot be read, or
reasons in fewer words than asked for (arXiv:2605.29801: the binary vector of failure mode, harm and risk source).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, fold, selectable
from gelert.core.verdict import Unreadable
from gelert.guard.contracts import Contract
from gelert.guard.parse import parse

CONTRACT = Contract.FINE_1_5
"""What the guard is asked."""

AXES = (Axis.FAILURE_MODE, Axis.HARM, Axis.RISK_SOURCE)
"""In the order of the published vector."""

Completion = str | Sequence[Mapping[str, object]]
"""An answer as TRL hands it over: its text, or its messages."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, read."""

    diagnosis: Diagnosis = Diagnosis()
    in_form: bool = False
    """Whether it was whole, readable, reasoned, and named a category of the taxonomy on each axis."""
    counts: bool = False
    """Whether what it names can earn a reward."""


def read(text: str, taxonomy: Taxonomy, *, cut: bool, least_words: int) -> Said:
    """The answer ``text``, by the parser of the fine contract.

    Args:
        text: of the answer.
        taxonomy: whose leaves it may name.
        cut: whether it was ended by the token limit.
        least_words: different words that its reasoning block needs.
    """
    found = parse(CONTRACT, text, taxonomy, finish_reason="length" if cut else "stop")
    if isinstance(found, Unreadable) or len(set(fold(found.rationale).split())) < least_words:
        return Said()
    return Said(found.diagnosis, in_form=not found.notes, counts=True)


def named(text: str, axis: Axis, taxonomy: Taxonomy) -> int:
    """How many categories of an axis stand after the analysis: more than one is an answer that hedges.

    A name that is part of a longer one that stands there does not count.
    """
    rest = f" {fold(_ANALYSIS_END.split(text)[-1])} "
    count = 0
    for name in sorted((fold(leaf.name) for leaf in selectable(taxonomy.on(axis))), key=len, reverse=True):
        if f" {name} " in rest:
            rest, count = rest.replace(f" {name} ", " / "), count + 1
    return count


@dataclass(frozen=True)
class AxisReward:
    """The reward of one axis, in the shape that TRL takes; it logs the axis' accuracy over all answers."""

    axis: Axis
    taxonomy: Taxonomy
    least_words: int

    @property
    def __name__(self) -> str:
        """What TRL calls it."""
        return self.axis.value

    def __call__(
        self,
        completions: Sequence[Completion],
        cut: Sequence[bool],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> list[float]:
        """One reward for each answer.

        Args:
            completions: the answers.
            cut: whether each was ended by the token limit.
            log_metric: of the trainer.
            columns: of the data set; that of the axis' name holds the right slugs.
        """
        right = columns[self.axis.value]
        assert isinstance(right, Sequence)
        texts = [_text(one) for one in completions]
        said = [
            read(text, self.taxonomy, cut=at_limit, least_words=self.least_words)
            for text, at_limit in zip(texts, cut, strict=True)
        ]
        rewards = [
            float(one.counts and one.diagnosis.on(self.axis) == slug) for one, slug in zip(said, right, strict=True)
        ]
        if log_metric and texts:
            hedged = sum(named(text, self.axis, self.taxonomy) > 1 for text in texts)
            log_metric(f"accuracy/{self.axis.value}", sum(rewards) / len(texts))
            log_metric(f"over_labelled/{self.axis.value}", hedged / len(texts))
            log_metric("in_form", sum(one.in_form for one in said) / len(texts))
        return rewards


def rewards(taxonomy: Taxonomy, least_words: int) -> list[AxisReward]:
    """The three rewards, in the order of the published vector."""
    return [AxisReward(axis, taxonomy, least_words) for axis in AXES]


_ANALYSIS_END = re.compile(r"</analysis>", re.IGNORECASE)


def _text(completion: Completion) -> str:
    if isinstance(completion, str):
        return completion
    return str(completion[-1].get("content") or "") if completion else ""
