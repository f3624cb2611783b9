"""Questions of the fine contract out of labelled unsafe runs, each short enough for the model that is to learn from it.

A run that does not fit is shortened text by text, with a mark in each place that says how much is not shown; the same
share of every text goes, whoever said it, for where the decisive words stand is what the guard has to find out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gelert.backends.base import Message
from gelert.core.errors import InputError
from gelert.core.example import Refusal
from gelert.core.seeds import stream
from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, selectable
from gelert.core.trajectory import Trajectory
from gelert.evals.benches import Labelled, group_folds
from gelert.forge.guard_rl_recipe import Recipe
from gelert.forge.guard_rl_reward import CONTRACT
from gelert.guard.prompts.agentdog import render
from gelert.guard.prompts.render import elide

LIMITS = (100_000, 8_000, 4_000, 2_000, 1_000, 500, 250, 120)
"""Characters that each text of a run may have, tried in this order."""

Count = Callable[[Sequence[Message]], int]
"""Tokens of a conversation in the model's own chat form, its answer's opening included."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked about one run, and what is right."""

    messages: tuple[Message, ...]
    gold: Diagnosis
    group: str
    """Questions of one group stay on one side of every split."""
    limit: int
    """Characters that each text of the run could have."""

    @property
    def whole(self) -> bool:
        """Whether the run did not need to be shortened to fit."""
        return self.limit == LIMITS[0]

    def row(self) -> dict[str, object]:
        """As a row of a data set for TRL: ``prompt``, and the right slug of each axis under the axis' name."""
        said = [{"role": one.role, "content": one.content} for one in self.messages]
        return {"prompt": said, **{axis.value: self.gold.on(axis) for axis in Axis}}


@dataclass(frozen=True, slots=True)
class Asked:
    """Runs as questions, one fold of whose groups is held out."""

    learnt: tuple[Question, ...]
    held_out: tuple[Question, ...]
    refused: tuple[Refusal, ...]
    safe: int
    """Runs that are not unsafe: the fine contract is not asked of them."""


def asked(data: Sequence[Labelled], taxonomy: Taxonomy, count: Count, recipe: Recipe) -> Asked:
    """The questions about the unsafe runs in ``data``.

    Raises:
        InputError: fewer than two groups of them can be asked about.
    """
    unsafe = [one for one in data if one.unsafe]
    found = [question(one, taxonomy, count, recipe.prompt_tokens) for one in unsafe]
    good = [one for one in found if isinstance(one, Question)]
    refused = tuple(one for one in found if isinstance(one, Refusal))
    groups = [one.group for one in good]
    if len(set(groups)) < 2:
        why = f"; the first refusal: {refused[0]}" if refused else ""
        raise InputError(
            f"expected unsafe runs with a diagnosis, of at least two groups, got {len(good)} runs of"
            f" {len(set(groups))} groups{why}"
        )
    out = set(group_folds(groups, recipe.folds, recipe.seed)[0])
    held_out = [good[at] for at in sorted(out)]
    stream(recipe.seed, "held out").shuffle(held_out)
    learnt = tuple(one for at, one in enumerate(good) if at not in out)
    return Asked(learnt, tuple(held_out[: recipe.held_out]), refused, len(data) - len(unsafe))


def question(item: Labelled, taxonomy: Taxonomy, count: Count, most: int) -> Question | Refusal:
    """The question about an unsafe run in at most ``most`` tokens, or why there is none."""
    run = item.example.trajectory
    lacking = [axis.value for axis in Axis if item.gold.diagnosis.on(axis) not in _offered(taxonomy, axis, run)]
    if lacking:
        told = f"expected a category that the prompt offers on each axis, got none on {', '.join(lacking)}"
        return _refused(item, f"{told}; label the run, or leave it out")
    length = 0
    for limit in LIMITS:
        messages = tuple(map(_readable, render(CONTRACT, shortened(run, limit), taxonomy)))
        length = count(messages)
        if length <= most:
            return Question(messages, item.gold.diagnosis, item.group, limit)
    short = f"expected a run of at most {most} tokens with {LIMITS[-1]} characters a text, got {length}"
    return _refused(item, f"{short}; raise prompt_tokens, or leave the run out")


def shortened(run: Trajectory, limit: int) -> Trajectory:
    """``run`` with at most ``limit`` characters and a mark of what is missing in each text of its steps and tools."""
    steps = tuple(
        replace(
            step,
            text=elide(step.text, limit)[0],
            thought=elide(step.thought, limit)[0],
            calls=tuple(
                replace(call, name=elide(call.name, limit)[0], arguments=elide(call.arguments, limit)[0])
                for call in step.calls
            ),
        )
        for step in run.steps
    )
    tools = tuple(
        replace(
            tool,
            name=elide(tool.name, limit)[0],
            description=elide(tool.description, limit)[0],
            parameters=elide(tool.parameters, limit)[0],
        )
        for tool in run.tools
    )
    return replace(run, steps=steps, tools=tools)


def _offered(taxonomy: Taxonomy, axis: Axis, run: Trajectory) -> set[str]:
    return {leaf.slug for leaf in selectable(taxonomy.on(axis, run.setting))}


def _readable(message: Message) -> Message:
    """Without lone surrogates, which no tokenizer can read: they become question marks."""
    return replace(message, content=message.content.encode("utf-8", "replace").decode("utf-8"))


def _refused(item: Labelled, reason: str) -> Refusal:
    origin = item.example.trajectory.origin
    return Refusal(origin.path, origin.record, None, reason)
