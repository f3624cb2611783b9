"""Judges a trajectory with a small generative guard: a low-rank adapter on a frozen local model.

The verdict is the margin between the two words at one position, calibrated; the worst view of a long run decides. A run
that is judged unsafe is diagnosed: on each axis the leaf whose name is likeliest after those already named.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gelert.backends.local import LocalModel
from gelert.backends.local_adapter import AdaptedModel
from gelert.core.errors import CardError
from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, builtin, selectable
from gelert.core.trajectory import Role, Setting, Trajectory
from gelert.core.verdict import Evidence, Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.adapter_card import AdapterCard, load_adapter
from gelert.guard.answer import AXES, END, REASON, Wording, tokens
from gelert.guard.guard import rises
from gelert.guard.views import View, views

if TYPE_CHECKING:
    from gelert.backends.local_adapter import AskedText


ANSWER_TOKENS = 256
"""Room that is left for the question and the diagnosis."""


@dataclass(frozen=True)
class AdapterGuard:
    """An adapter's card in memory, on its model."""

    card: AdapterCard
    model: AdaptedModel
    taxonomy: Taxonomy = field(default_factory=builtin)

    @classmethod
    def load(cls, folder: Path) -> "AdapterGuard":
        """Load a guard and its model.

        Raises:
            CardError: the card is wrong, or was made for other weights than the model's.
            ModelError: the adapter is damaged.
            MissingError: the model or an extra is not installed.
        """
        card = load_adapter(folder)
        local = LocalModel.load(card.model.name, dtype=card.model.dtype)
        if local.fingerprint != card.model.fingerprint:
            raise CardError(
                f"expected model weights {card.model.fingerprint} for guard {card.name!r}, got {local.fingerprint};"
                f" run: gelert model pull {card.model.name}"
            )
        needed = card.adapter.max_tokens + ANSWER_TOKENS + card.adapter.rationale_tokens
        if needed > local.model.context:
            raise CardError(f"expected views that leave room in {local.model.context} tokens of context, got {needed}")
        place = folder if folder.is_dir() else folder.parent
        question = Wording.of(local.encode).question
        return cls(card, AdaptedModel.load(local, place, question, card.adapter.acts))

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def concurrency(self) -> int:
        """One: reading one trajectory keeps all cores busy."""
        return 1

    @cached_property
    def wording(self) -> Wording:
        """Question and verdicts in the model's tokens."""
        return Wording.of(self.model.local.encode)

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Read all views and judge by the worst; evidence is where the risk rose in it."""
        if not any(step.role is Role.AGENT for step in trajectory.steps):
            return Unreadable(f"expected at least one step of the agent, got none in {len(trajectory.steps)} steps")
        shown, text = views(self.model.local, trajectory, self.card.adapter.max_tokens), self.model.text()
        margins = self._margins(text, shown.views)
        if not all(map(math.isfinite, margins)):
            return Unreadable("expected a finite margin, got one that is not; are the weights damaged?")
        scores = self.card.scores
        risk = scores.risk(max(margins))
        steps = len(trajectory.steps)
        reading = Reading(steps, steps, len(shown.views), shown.elided_characters)
        if risk < scores.threshold:
            return Safe(risk, reading)
        worst = shown.views[margins.index(max(margins))]
        evidence = self._evidence(text, worst)
        text.read(worst.ids)
        diagnosis, told = self._diagnosis(text, trajectory.setting)
        return Unsafe(risk, reading, diagnosis, evidence, self._rationale(text, told))

    def margin(self, trajectory: Trajectory) -> float:
        """The log-odds of unsafe in the worst view, before calibration."""
        shown = views(self.model.local, trajectory, self.card.adapter.max_tokens)
        return max(self._margins(self.model.text(), shown.views))

    def _margins(self, text: "AskedText", shown: Sequence[View]) -> list[float]:
        found: list[float] = []
        for view in shown:
            text.read(view.ids)
            found.append(self._margin(text))
        return found

    def _margin(self, text: "AskedText") -> float:
        safe, unsafe = text.log_probs(self.wording.question, [[label] for label in self.wording.labels])
        return unsafe - safe

    def _evidence(self, text: "AskedText", view: View) -> tuple[Evidence, ...]:
        """The steps of the agent at which the risk rose most, with the view read as far as each of them."""
        ids, trace, before = list(view.lead), list[tuple[int, float]](), None
        for part in view.parts:
            if part.role is Role.AGENT and before is None:
                text.read(ids)
                before = self.card.scores.risk(self._margin(text))
            ids += part.ids
            if part.role is Role.AGENT:
                text.read(ids)
                trace.append((part.step, self.card.scores.risk(self._margin(text))))
        return rises(trace, before or 0.0)

    def _diagnosis(self, text: "AskedText", setting: Setting) -> tuple[Diagnosis, list[int]]:
        """A leaf on each axis, and the tokens that say so after the question."""
        encode = self.model.local.encode
        said = [*self.wording.question, *self.wording.unsafe]
        found: dict[Axis, str] = {}
        closing = encode(END)[:1]
        for axis, opening in AXES:
            said += encode(opening)
            leaves = selectable(self.taxonomy.on(axis, setting))
            names = [encode(f" {leaf.name}") for leaf in leaves]
            scores = text.log_probs(said, [[*name, *closing] for name in names])
            best = scores.index(max(scores))
            found[axis] = leaves[best].slug
            said += names[best]
        return Diagnosis(found[Axis.RISK_SOURCE], found[Axis.FAILURE_MODE], found[Axis.HARM]), said

    def _rationale(self, text: "AskedText", said: list[int]) -> str:
        most = self.card.adapter.rationale_tokens
        if not most:
            return ""
        tail = [*said, *tokens(self.model.local.encode, [REASON])]
        return text.greedy(tail, most=most, until=END).strip()
