"""Reinforcement learning of a guard's diagnosis: group-relative, with a reward of its own for each axis (GDPO).

The model answers the fine contract's question about unsafe runs several times each; every axis' reward is normalised
within the group by itself, the weighted sum over the batch (arXiv:2605.29801; arXiv:2601.05242). TRL's trainer does the
learning. One fold of whole families of runs is held out and asked about before and after.

A folder ``out`` holds ``config.json`` (what replays it), ``checkpoints``, ``log.jsonl``, ``before.json``,
``figures.json``, and in the end ``adapter`` (in PEFT's form) or ``model`` or both. The same line goes on where it was
stopped.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gelert.backends.base import Message
from gelert.core import records
from gelert.core.errors import InputError, missing_extra
from gelert.core.taxonomy import Taxonomy, builtin
from gelert.evals.benches import Labelled
from gelert.forge.adapter import write
from gelert.forge.checkpoints import CHECKPOINTS, begin, last_whole
from gelert.forge.guard_rl_prompts import Asked, Count, asked
from gelert.forge.guard_rl_recipe import Recipe, arguments
from gelert.forge.guard_rl_reward import AXES, rewards
from gelert.lm import registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gelert.forge.guard_rl_trainer import DiagnosisTrainer

BEFORE, FIGURES = "before.json", "figures.json"


@dataclass(frozen=True, slots=True)
class Figures:
    """How answers to the runs that are held out fare, on average over all of their groups."""

    accuracy: dict[str, float]
    """By axis: share of answers that earn its reward."""
    over_labelled: dict[str, float]
    """By axis: share of answers that name several categories."""
    in_form: float
    """Share of answers that are whole, readable and reasoned."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the learning has come to."""

    runs: int
    """That were learnt from."""
    held_out: int
    shortened: int
    """Of both, those that did not fit whole."""
    steps: int
    floor: dict[str, float]
    """By axis: share of the held out runs that have the leaf which is the most frequent among those learnt from."""
    before: Figures
    after: Figures


def require() -> None:
    """Say which extra is missing before anything is read.

    Raises:
        MissingError: TRL is not installed.
    """
    if find_spec("trl") is None:
        raise missing_extra("reinforcement learning", "rl")


def train(
    data: Sequence[Labelled],
    model: str,
    out: Path,
    recipe: Recipe,
    *,
    taxonomy: Taxonomy | None = None,
    tell: Callable[[int], None] = lambda _step: None,
) -> tuple[Report, Asked]:
    """Let a model learn from its answers; goes on from the last checkpoint in ``out`` if there is one.

    Args:
        data: labelled runs; safe ones are passed over.
        model: a registered name, a folder or a hub id, with a chat template.
        out: folder to make or go on with.
        recipe: of the learning.
        taxonomy: whose leaves may be named; the built-in one by default.
        tell: is told the number of each step that is done.

    Raises:
        MissingError: TRL or the model is not here.
        InputError: the data do not do, or ``out`` was begun with others, or with another recipe or model.
    """
    require()
    from accelerate.utils import set_seed
    from transformers import AutoTokenizer

    from gelert.lm.quiet import quiet

    leaves = taxonomy or builtin()
    folder = registry.resolve(model)
    tokenizer = cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(folder))
    if not tokenizer.chat_template:
        raise InputError(f"expected a model with a chat template, got {model!r}")
    questions = asked(data, leaves, _counter(tokenizer), recipe)
    _begin(out, recipe, model, questions)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own use of names that transformers retires
        trainer = _trainer(folder, tokenizer, questions, recipe, out, leaves, tell)
        before = _before(trainer, out)
        set_seed(recipe.seed, device_specific=True)  # the same draws whether or not the figures before were there
        trainer.train(resume_from_checkpoint=last_whole(out / CHECKPOINTS))
        after = _measure(trainer)
        write(trainer, recipe.adapter, model, out)
    every = questions.learnt + questions.held_out
    report = Report(
        len(questions.learnt),
        len(questions.held_out),
        sum(not one.whole for one in every),
        trainer.state.global_step,
        _floor(questions),
        before,
        after,
    )
    if trainer.is_world_process_zero():
        (out / FIGURES).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return report, questions


def _counter(tokenizer: "PreTrainedTokenizerBase") -> Count:
    def tokens(messages: Sequence[Message]) -> int:
        said = [{"role": one.role, "content": one.content} for one in messages]
        found = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=True)
        return len(cast("dict[str, list[int]]", found)["input_ids"])

    return tokens


def _begin(out: Path, recipe: Recipe, model: str, questions: Asked) -> None:
    """Note what is learnt, or check that it is what was begun; more steps may be asked for than at first."""
    noted = {
        "recipe": recipe.model_dump(exclude={"steps"}),
        "model": model,
        "questions_sha256": records.digest([one.row() for one in questions.learnt + questions.held_out]),
        "versions": {name: version(name) for name in ("gelert", "trl", "transformers", "torch")},
    }
    begin(out, noted)


def _trainer(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    questions: Asked,
    recipe: Recipe,
    out: Path,
    taxonomy: Taxonomy,
    tell: Callable[[int], None],
) -> "DiagnosisTrainer":
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed

    from gelert.forge.guard_rl_trainer import DiagnosisTrainer, StepLog

    set_seed(recipe.seed)  # the adapter is drawn before the trainer sets it
    trainer = DiagnosisTrainer(
        model=str(folder),
        processing_class=tokenizer,
        args=arguments(recipe, out / CHECKPOINTS, int(os.environ.get("WORLD_SIZE", "1"))),
        train_dataset=Dataset.from_list([one.row() for one in questions.learnt]),
        eval_dataset=Dataset.from_list([one.row() for one in questions.held_out]),
        reward_funcs=cast("Any", rewards(taxonomy, recipe.reasoning_words)),
        peft_config=recipe.adapter and recipe.adapter.config(folder),
        callbacks=[StepLog(out, tell)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _before(trainer: "DiagnosisTrainer", out: Path) -> Figures:
    """The figures before the first step, measured once."""
    path = out / BEFORE
    if path.exists():
        return Figures(**json.loads(path.read_text(encoding="utf-8")))
    figures = _measure(trainer)
    if trainer.is_world_process_zero():
        path.write_text(json.dumps(asdict(figures), indent=1) + "\n", encoding="utf-8")
    return figures


def _measure(trainer: "DiagnosisTrainer") -> Figures:
    trainer.evaluate()
    told = trainer.state.log_history[-1]
    return Figures(
        {axis.value: told[f"eval_accuracy/{axis.value}"] for axis in AXES},
        {axis.value: told[f"eval_over_labelled/{axis.value}"] for axis in AXES},
        told["eval_in_form"],
    )


def _floor(questions: Asked) -> dict[str, float]:
    found: dict[str, float] = {}
    for axis in AXES:
        ((leaf, _),) = Counter(one.gold.on(axis) for one in questions.learnt).most_common(1)
        found[axis.value] = sum(one.gold.on(axis) == leaf for one in questions.held_out) / len(questions.held_out)
    return found
