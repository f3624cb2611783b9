"""Supervised fine-tuning of a small generative guard: many cells (rule, margin, seed) in one batch on one frozen model.

Each run is a reply to learn: the verdict, then for an unsafe run a leaf on each axis; ``rationale`` adds the reason, on
which arXiv:2605.29801 trains. Tokens count by the plain likelihood or, with MemFT-OT (arXiv:2605.30260 eq. 9), only
while they are not certain. A margin between the verdicts of twins can be added.

The adapters act on the question and the answer, not on the prompt (``gelert.lm.prefix``): a step then runs some dozens
of tokens a run through the blocks above the trunk, and the prompt's keys and values are read once, before training.
``benchmarks/guard_sft.py designs`` measures this choice against adapters on all tokens.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from gelert.backends.local import LocalModel
from gelert.backends.local_adapter import Acts
from gelert.core.errors import InputError
from gelert.core.records import digest
from gelert.forge.guard_sft_examples import TOGETHER, Lesson
from gelert.guard.answer import Wording
from gelert.lm.bank import Bank, Spec, new, one, stack
from gelert.lm.loop import Config, Step, Task, Training
from gelert.lm.objective import Twins, graded
from gelert.lm.prefix import Prefixes, Whole
from gelert.lm.trunk import Trunk
from gelert.lm.weights import Likelihood, OnlyThreshold, Rule

Weighting = Literal["nll", "memft-ot"]

RULES: dict[Weighting, Rule] = {"nll": Likelihood(), "memft-ot": OnlyThreshold(when_empty="zero")}
"""A step whose tokens are all certain moves nothing under MemFT-OT, as in its equation; the training goes on."""

STATE = "state.pt"

ROWS_AT_ONCE = 64
"""Rows of one pass when validating."""


@dataclass(frozen=True)
class Recipe:
    """What all cells of a training share."""

    model: str = "smollm2-135m"
    max_tokens: int = 768
    """Of a view of a run."""
    acts: Acts = "answer"
    """Where the adapters act."""
    trunk: int = 20
    """Blocks without adapters, from the bottom."""
    rank: int = 8
    learning_rate: float = 2e-3
    epochs: int = 4
    examples_per_step: int = 8
    rationale: bool = False
    """Also learn the reasons of unsafe labels."""


@dataclass(frozen=True)
class Cell:
    """What the adapters of one training differ in."""

    rule: Weighting = "nll"
    margin: float = 0.0
    """Weight of the margin between twins; 0 for none."""
    seed: int = 0
    """Of the adapter's first numbers and of the order of the runs."""

    def config(self, recipe: Recipe, steps: int) -> Config:
        """How it is trained."""
        return Config(
            steps=steps,
            learning_rate=recipe.learning_rate,
            warmup_steps=min(10, steps),
            examples_per_step=recipe.examples_per_step,
            seed=self.seed,
            rule=RULES[self.rule],
            together=TOGETHER,
            twins=Twins(self.margin) if self.margin else None,
        )


@dataclass(frozen=True)
class Score:
    """One cell on the validation runs."""

    margins: tuple[float, ...]
    """Log-odds of unsafe, run by run."""
    verdict_loss: float
    """Mean logistic loss of the margins, nats: what chooses the epoch."""
    loss: float
    """Mean weighted loss of all tokens, nats."""
    accuracy: float
    """At a margin of 0."""


@dataclass(frozen=True)
class Epoch:
    """What every cell is after a pass over the runs; epoch 0 is before the first."""

    number: int
    steps: int
    """Taken so far."""
    scores: tuple[Score, ...]
    losses: tuple[float, ...] = ()
    """Mean training loss of each cell in this epoch."""
    shares: tuple[float, ...] = ()
    """Share of the supervised tokens that had a gradient, mean over its steps."""


@dataclass
class Sft:
    """A training that can be stopped and goes on where it was.

    Args:
        model: with all its blocks.
        recipe: what the cells share.
        cells: what they differ in.
        train: to learn from.
        validation: to choose the epoch by.
        folder: keeps the state after each epoch; ``None`` keeps nothing.
        prefixes: keeps the prompts' keys and values, mapped; ``None`` holds them in memory.

    Raises:
        InputError: the folder holds the state of another training.
    """

    model: LocalModel
    recipe: Recipe
    cells: Sequence[Cell]
    train: Sequence[Lesson]
    validation: Sequence[Lesson]
    folder: Path | None = None
    prefixes: Path | None = None

    def __post_init__(self) -> None:
        if not self.train or not self.validation or not self.cells:
            raise InputError("expected lessons to learn from and to validate on, and at least one cell, got none")
        language = self.model.model
        trunk = Trunk(language, self.recipe.trunk, self.prefixes)
        self.text: Prefixes | Whole = Prefixes(trunk) if self.recipe.acts == "answer" else Whole(trunk)
        specs = [Spec(self.recipe.rank, 2.0 * self.recipe.rank, cell.seed) for cell in self.cells]
        self._bank = new(language, specs, blocks_from=self.recipe.trunk)
        self._objective = graded(Wording.of(self.model.encode).labels)
        self.steps_per_epoch = -(-len(self.train) // self.recipe.examples_per_step)
        steps = self.steps_per_epoch * self.recipe.epochs
        replies = [lesson.reply for lesson in self.train]
        tasks = [Task(replies, cell.config(self.recipe, steps)) for cell in self.cells]
        self._training = Training(trunk, self._bank, tasks, objective=self._objective, stream=self.text.stream)
        self.epochs: list[Epoch] = []
        """What was measured so far, epoch 0 first."""
        self._best: list[dict[str, tuple[Tensor, Tensor]]] = []
        self._restore()

    def read(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Read what the frozen model has not read yet; ``progress`` is told how many runs are done."""
        self.text.read([lesson.reply for lesson in (*self.train, *self.validation)], progress)

    def run(self) -> Iterator[Epoch]:
        """The epochs that are left, each yielded once its state is on disk."""
        if not self.epochs:
            yield self._close(Epoch(0, 0, self._now()))
        taken: list[Step] = []
        for step in self._training.run():
            taken.append(step)
            if step.number % self.steps_per_epoch == 0:
                losses = _means([step.losses for step in taken])
                shares = _means([step.shares for step in taken])
                number = step.number // self.steps_per_epoch
                yield self._close(Epoch(number, step.number, self._now(), losses, shares))
                taken = []

    def best(self, cell: int) -> Epoch:
        """The epoch with the lowest verdict loss on the validation runs."""
        return min(self.epochs, key=lambda epoch: epoch.scores[cell].verdict_loss)

    @property
    def chosen(self) -> int:
        """The cell whose best epoch is the best of all."""
        return min(range(len(self.cells)), key=lambda cell: self.best(cell).scores[cell].verdict_loss)

    def best_bank(self) -> Bank:
        """Every cell's adapter as it was in its best epoch."""
        return stack(self._bank.specs, self._best)

    @torch.no_grad()
    def scores(self, lessons: Sequence[Lesson], bank: Bank) -> tuple[Score, ...]:
        """How each adapter of ``bank``, which has one for each cell, does on ``lessons``."""
        count = len(self.cells)
        margins = np.zeros((count, len(lessons)))
        sums, totals = np.zeros(count), np.zeros(count)
        each = max(1, ROWS_AT_ONCE // count)
        for first in range(0, len(lessons), each):
            part = lessons[first : first + each]
            rows = [lesson.reply for _ in range(count) for lesson in part]
            adapters = [cell for cell in range(count) for _ in part]
            hidden = self.text.stream(rows, bank.linear(adapters))
            scored = self._objective(self.model.model, hidden, rows)
            assert scored.margins is not None
            margins[:, first : first + len(part)] = scored.margins.values.view(count, -1).double().numpy()
            weighed = (scored.losses * scored.weights).split(scored.sizes)
            for row, (loss, weight) in enumerate(zip(weighed, scored.weights.split(scored.sizes), strict=True)):
                sums[adapters[row]] += float(loss.sum())
                totals[adapters[row]] += float(weight.sum())
        unsafe = np.array([lesson.run.unsafe for lesson in lessons])
        right = np.where(unsafe, margins, -margins)
        return tuple(
            Score(tuple(own.tolist()), float(np.logaddexp(0, -hits).mean()), float(loss), float((hits > 0).mean()))
            for own, hits, loss in zip(margins, right, sums / totals, strict=True)
        )

    def _now(self) -> tuple[Score, ...]:
        return self.scores(self.validation, self._bank)

    def _close(self, epoch: Epoch) -> Epoch:
        """The epoch, measured and kept."""
        self.epochs.append(epoch)
        for cell in range(len(self.cells)):
            if len(self._best) <= cell:
                self._best.append(one(self._bank, cell))
            elif self.best(cell) is epoch:
                self._best[cell] = one(self._bank, cell)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            state = {
                "training": self._training.state(),
                "epochs": [asdict(done) for done in self.epochs],
                "best": self._best,
                "of": self._identity(),
            }
            partial = self.folder / f"{STATE}.{os.getpid()}.partial"
            torch.save(state, partial)
            partial.replace(self.folder / STATE)
        return epoch

    def _restore(self) -> None:
        path = None if self.folder is None else self.folder / STATE
        if path is None or not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["of"] != self._identity():
            raise InputError(f"expected the state of this training, got that of another ({path}); give another folder")
        self._training.restore(state["training"])
        self._best = state["best"]
        self.epochs = [_EPOCH.validate_python(row) for row in state["epochs"]]

    def _identity(self) -> str:
        """Of the model, the recipe, the cells and the runs."""
        replies = [(one.reply.prompt, one.reply.ids, one.reply.twin) for one in (*self.train, *self.validation)]
        return digest([self.model.fingerprint, asdict(self.recipe), [asdict(cell) for cell in self.cells], replies])


def _means(rows: Sequence[Sequence[float | None]]) -> tuple[float, ...]:
    return tuple(float(mean) for mean in np.array(rows, dtype=np.float64).mean(axis=0))


_EPOCH = TypeAdapter(Epoch)


def cells_of(rule: Weighting, margin: float, seeds: int) -> list[Cell]:
    """One cell a seed."""
    first = Cell(rule, margin)
    return [replace(first, seed=seed) for seed in range(seeds)]
