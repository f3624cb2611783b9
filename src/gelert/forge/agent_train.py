"""Supervised fine-tuning of an agent on demonstrations: TRL's trainer, loss on what the agent says.

An adapter is trained, or all weights, or a new small model from nothing; see ``gelert.forge.agent_folder`` for what
comes of it. The same line goes on where it was stopped, and a finished one goes on when it is asked for more steps.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gelert.backends.local import LocalModel
from gelert.core import records
from gelert.core.errors import InputError, missing_extra
from gelert.core.example import Refusal
from gelert.core.trajectory import Trajectory
from gelert.forge.agent_folder import LOG, keep, versions
from gelert.forge.agent_policy import made
from gelert.forge.agent_sft import candidates, kept
from gelert.forge.agent_train_lessons import UNLEARNT, Lesson, lessons
from gelert.forge.agent_train_recipe import Recipe, arguments
from gelert.forge.agent_widen import widened
from gelert.forge.checkpoints import CHECKPOINTS, begin, last_whole
from gelert.guard.formats import read
from gelert.lm import registry
from gelert.worlds.catalogue import catalogue

if TYPE_CHECKING:
    from trl.trainer.sft_trainer import SFTTrainer

    from gelert.guard.guard import Guard

LOG_KIND = "agent-train-step", 1
LOGGED = "step", "loss", "grad_norm", "mean_token_accuracy"


@dataclass(frozen=True, slots=True)
class Taught:
    """What there is to learn."""

    model: str
    """That learns them."""
    runs: int
    """That are learnt from."""
    lessons: tuple[Lesson, ...]
    refused: tuple[Refusal, ...]

    @property
    def learnt(self) -> int:
        """Tokens of the agent's own."""
        return sum(label != UNLEARNT for one in self.lessons for label in one.labels)


@dataclass(frozen=True, slots=True)
class Report:
    """What the learning has come to."""

    runs: int
    refused: int
    tokens: int
    """Of the agent's own, in all runs."""
    steps: int
    first_loss: float
    last_loss: float
    """Mean over the tokens of the first and of the last step."""
    wrote: tuple[str, ...]
    """Folders of the agent."""


def require() -> None:
    """Say which extra is missing before anything is read.

    Raises:
        MissingError: TRL is not installed.
    """
    if find_spec("trl") is None:
        raise missing_extra("fine-tuning an agent", "rl")


def demonstrations(recipe: Recipe, guard: "Guard | None" = None) -> Iterator[Trajectory | Refusal]:
    """The runs that a recipe names.

    Args:
        recipe: of the learning.
        guard: where a guard chooses.
    """
    shown = recipe.demonstrations
    for path in shown.files:
        for one in read(path):
            yield one if isinstance(one, Refusal) else one.trajectory
    if shown.count:
        families = widened(catalogue(shown.worlds), shown.widened, recipe.seed)
        for found in candidates(families, shown.draw(recipe.form, recipe.seed)):
            if kept(found, shown.keep, guard):
                yield found.run


def taught(runs: Iterable[Trajectory | Refusal], recipe: Recipe, out: Path) -> Taught:
    """The runs as a model learns them.

    Args:
        runs: to learn from.
        recipe: of the learning.
        out: folder of the training; a new model is made in it, once.

    Raises:
        InputError: the model has no chat template or no token that ends a turn, or no run can be learnt from.
    """
    if recipe.policy:
        runs = list(runs)
        told = [one for one in runs if isinstance(one, Trajectory)]
        name = str(made(recipe.policy, told, recipe.form, recipe.seed, out))
    else:
        name = str(recipe.model)
    model = LocalModel.load(name, layers=1).model
    if not model.tokenizer.chat_template or model.tokenizer.eos_token_id is None:
        raise InputError(f"expected a model with a chat template and a token that ends a turn, got {name!r}")
    count, good, refused = 0, list[Lesson](), list[Refusal]()
    for run in runs:
        found = run if isinstance(run, Refusal) else lessons(run, recipe.form, model, recipe.most_tokens)
        if isinstance(found, Refusal):
            refused.append(found)
        else:
            count += 1
            good += found
    if not good:
        why = f"; the first refusal: {refused[0]}" if refused else ""
        raise InputError(f"expected runs that an agent can learn from, got none{why}")
    return Taught(name, count, tuple(good), tuple(refused))


def train(found: Taught, recipe: Recipe, out: Path, *, tell: Callable[[int], None] = lambda _step: None) -> Report:
    """Let a model learn; goes on from the last whole checkpoint in ``out`` if there is one.

    Args:
        found: what there is to learn.
        recipe: of the learning.
        out: folder to make or go on with.
        tell: is told the number of each step that is done.

    Raises:
        MissingError: TRL or the model is not here.
        InputError: ``out`` was begun with another recipe or other runs.
    """
    require()
    from gelert.lm.quiet import quiet

    noted = _noted(found, recipe)
    begin(out, noted)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own use of names that transformers retires
        trainer = _trainer(found, recipe, out, tell)
        trainer.train(resume_from_checkpoint=last_whole(out / CHECKPOINTS))
        wrote = keep(trainer, recipe.adapter, found.model, out, noted)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    steps = trainer.state.global_step
    return Report(found.runs, len(found.refused), found.learnt, steps, losses[0], losses[-1], wrote)


def _noted(found: Taught, recipe: Recipe) -> dict[str, object]:
    """What the result is made of."""
    return {
        "form": recipe.form.value,
        "runs": found.runs,
        "refused": len(found.refused),
        "lessons_sha256": records.digest([one.row() for one in found.lessons]),
        "recipe": recipe.noted(),
        "versions": versions(),
    }


def _trainer(found: Taught, recipe: Recipe, out: Path, tell: Callable[[int], None]) -> "SFTTrainer":
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback, set_seed
    from trl.trainer.sft_trainer import SFTTrainer

    from gelert.forge.agent_train_log import StepLog

    folder = registry.resolve(found.model)
    set_seed(recipe.seed)  # the adapter is drawn before the trainer sets it
    trainer = SFTTrainer(
        model=str(folder),
        processing_class=AutoTokenizer.from_pretrained(folder),
        args=arguments(recipe, out / CHECKPOINTS, int(os.environ.get("WORLD_SIZE", "1"))),
        train_dataset=Dataset.from_list([one.row() for one in found.lessons]),
        peft_config=recipe.adapter and recipe.adapter.config(folder),
        callbacks=[StepLog(out / LOG, LOG_KIND, LOGGED, tell)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
