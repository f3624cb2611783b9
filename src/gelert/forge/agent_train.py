"""Supervised fine-tuning of an agent on demonstrations: TRL's trainer, a LoRA adapter, loss on what the agent says.

A folder ``out`` holds ``config.json`` (what replays it), ``checkpoints``, ``log.jsonl``, and in the end ``adapter``: in
PEFT's form, with a card ``agent.json``, as ``gelert.backends.local_chat`` plays it. The same line goes on where it was
stopped, and a finished one goes on when it is asked for more steps.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gelert.backends.local import LocalModel
from gelert.backends.local_chat import ADAPTER as PEFT
from gelert.core import records
from gelert.core.errors import InputError, missing_extra
from gelert.core.example import Refusal
from gelert.core.trajectory import Trajectory
from gelert.forge.agent_sft import candidates, kept
from gelert.forge.agent_train_lessons import UNLEARNT, Lesson, lessons
from gelert.forge.agent_train_recipe import Demonstrations, Recipe, arguments
from gelert.forge.checkpoints import last_whole
from gelert.guard.formats import read
from gelert.lm import registry
from gelert.worlds.catalogue import catalogue

if TYPE_CHECKING:
    from trl.trainer.sft_trainer import SFTTrainer

    from gelert.guard.guard import Guard

CONFIG, CHECKPOINTS, LOG, ADAPTER, CARD = "config.json", "checkpoints", "log.jsonl", "adapter", "agent.json"
LOG_KIND = "agent-train-step", 1


@dataclass(frozen=True, slots=True)
class Taught:
    """What there is to learn."""

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


def require() -> None:
    """Say which extra is missing before anything is read.

    Raises:
        MissingError: TRL is not installed.
    """
    if find_spec("trl") is None:
        raise missing_extra("fine-tuning an agent", "rl")


def demonstrations(shown: Demonstrations, seed: int, guard: "Guard | None" = None) -> Iterator[Trajectory | Refusal]:
    """The runs that a recipe names.

    Args:
        shown: of the recipe.
        seed: of those that are made.
        guard: where a guard chooses.
    """
    for path in shown.files:
        for one in read(path):
            yield one if isinstance(one, Refusal) else one.trajectory
    if shown.count:
        families = catalogue(shown.worlds)
        for found in candidates(families, shown.count, plain=shown.plain, flawed=shown.flawed, seed=seed):
            if kept(found, shown.keep, guard):
                yield found.run


def taught(runs: Iterable[Trajectory | Refusal], recipe: Recipe) -> Taught:
    """The runs as a model learns them.

    Raises:
        InputError: the model has no chat template or no token that ends a turn, or no run can be learnt from.
    """
    model = LocalModel.load(recipe.model, layers=1).model
    if not model.tokenizer.chat_template or model.tokenizer.eos_token_id is None:
        raise InputError(f"expected a model with a chat template and a token that ends a turn, got {recipe.model!r}")
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
    return Taught(count, tuple(good), tuple(refused))


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
    _begin(out, noted)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own use of names that transformers retires
        trainer = _trainer(found.lessons, recipe, out, tell)
        trainer.train(resume_from_checkpoint=last_whole(out / CHECKPOINTS))
        _keep(trainer, recipe, out, noted)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    steps = trainer.state.global_step
    return Report(found.runs, len(found.refused), found.learnt, steps, losses[0], losses[-1])


def _noted(found: Taught, recipe: Recipe) -> dict[str, object]:
    """What the result is made of."""
    return {
        "model": recipe.model,
        "form": recipe.form.value,
        "runs": found.runs,
        "refused": len(found.refused),
        "lessons_sha256": records.digest([one.row() for one in found.lessons]),
        "recipe": recipe.noted(),
        "versions": {name: version(name) for name in ("gelert", "trl", "peft", "transformers", "torch")},
    }


def _begin(out: Path, noted: dict[str, object]) -> None:
    """Note what is learnt, or check that it is what was begun. Of several processes the first one does it."""
    if os.environ.get("RANK", "0") != "0":
        return
    text = json.dumps(noted, indent=1) + "\n"
    kept_text = out / CONFIG
    if kept_text.exists() and kept_text.read_text(encoding="utf-8") != text:
        raise InputError(
            f"expected the config that {out} was begun with, got another recipe, model, version or other runs;"
            f" choose another folder or remove it (compare {kept_text})"
        )
    out.mkdir(parents=True, exist_ok=True)
    kept_text.write_text(text, encoding="utf-8")


def _trainer(found: Sequence[Lesson], recipe: Recipe, out: Path, tell: Callable[[int], None]) -> "SFTTrainer":
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, PrinterCallback, set_seed
    from trl.trainer.sft_trainer import SFTTrainer

    from gelert.forge.agent_train_log import StepLog

    folder = registry.resolve(recipe.model)
    lora = LoraConfig(
        r=recipe.adapter.rank, lora_alpha=recipe.adapter.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    set_seed(recipe.seed)  # the adapter is drawn before the trainer sets it
    trainer = SFTTrainer(
        model=str(folder),
        processing_class=AutoTokenizer.from_pretrained(folder),
        args=arguments(recipe, out / CHECKPOINTS, int(os.environ.get("WORLD_SIZE", "1"))),
        train_dataset=Dataset.from_list([one.row() for one in found]),
        peft_config=lora,
        callbacks=[StepLog(out / LOG, LOG_KIND, tell)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _keep(trainer: "SFTTrainer", recipe: Recipe, out: Path, noted: dict[str, object]) -> None:
    """Write the adapter, with the model's name instead of where it lies here, and the card."""
    folder = out / ADAPTER
    trainer.save_model(str(folder))
    if not trainer.is_world_process_zero():
        return
    config = json.loads((folder / PEFT).read_text(encoding="utf-8"))
    # Only now: what writes an adapter would look the model's name up on the hub.
    named = config | {"base_model_name_or_path": recipe.model}
    (folder / PEFT).write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    card = noted | {"steps": trainer.state.global_step}
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
