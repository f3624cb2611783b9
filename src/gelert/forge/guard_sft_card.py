"""From a fine-tuned adapter to a guard on disk: PEFT's files, calibration as the guard itself reads, a card."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from gelert.backends.local_adapter import AdaptedModel
from gelert.core.errors import InputError
from gelert.evals.benches import Labelled
from gelert.evals.metrics import FIGURES, interval, outcomes
from gelert.forge.guard_sft import Sft
from gelert.guard.adapter import AdapterGuard
from gelert.guard.adapter_card import AdapterCard, AdapterSection, save_adapter
from gelert.guard.answer import Wording
from gelert.guard.calibrate import fit_labelled
from gelert.guard.card import ModelSection
from gelert.guard.recalibrate import section
from gelert.lm.bank import one, stack
from gelert.lm.peft import save

LIMITS = (
    "A small generative guard. A kind of run that its training data do not have it may judge no better than a coin:"
    " read its figures beside their floors. Its threshold was fitted to the runs that chose its epoch. It reads no"
    " images. Use it as a first stage, beside rules, not as the only gate."
)

RATIONALE_TOKENS = 160
"""Longest rationale of a guard that has learned to give one."""

SHOWN = ("accuracy", "auc", "ece")


def make(
    sft: Sft, folder: Path, name: str, validation: Sequence[Labelled], progress: Callable[[int], None] = lambda _: None
) -> AdapterCard:
    """Write the best cell's best adapter as a guard; it is calibrated on the validation runs.

    Args:
        sft: trained.
        folder: of the new guard.
        name: of the guard.
        validation: the runs by which the epoch was chosen; every view of each is read, as when the guard serves.
        progress: told how many of them are read.

    Raises:
        InputError: nothing was trained yet.
    """
    if not sft.epochs:
        raise InputError("expected a training with at least one epoch, got none")
    cell, local, recipe = sft.chosen, sft.model, sft.recipe
    best, wording = sft.best_bank(), Wording.of(local.encode)
    save(local.model, best, cell, folder, invocation=wording.question if recipe.acts == "answer" else ())
    card = AdapterCard(
        name=name,
        description="A low-rank adapter on a frozen model: verdict, then a leaf on each axis.",
        limits=LIMITS,
        model=ModelSection(name=recipe.model, fingerprint=local.fingerprint, layers=local.model.layers),
        adapter=AdapterSection(
            acts=recipe.acts,
            max_tokens=recipe.max_tokens,
            rationale_tokens=RATIONALE_TOKENS if recipe.rationale else 0,
        ),
        made=_recipe(sft, cell),
    )
    save_adapter(folder, card)
    alone = stack([best.specs[cell]], [one(best, cell)])
    guard = AdapterGuard(card, AdaptedModel(local, alone, recipe.acts))
    margins: list[float] = []
    for done, run in enumerate(validation, start=1):
        margins.append(guard.margin(run.example.trajectory))
        progress(done)
    unsafe = [run.unsafe for run in validation]
    found = fit_labelled(margins, unsafe)
    risks = [found.risk(margin) for margin in margins]
    o = outcomes(unsafe, [risk >= found.threshold for risk in risks], risks, [run.group for run in validation])
    figures = {f"validation {figure}": str(interval(FIGURES[figure], o)) for figure in SHOWN}
    figures["validation, always unsafe"] = f"accuracy {sum(unsafe) / len(unsafe):.3f}"
    calibration = section(found, "margins of the validation runs, by which the epoch was chosen too")
    return save_adapter(folder, card.model_copy(update={"calibration": calibration, "figures": figures}))


def _recipe(sft: Sft, cell: int) -> dict[str, str]:
    chosen = sft.best(cell)
    told = {**asdict(sft.recipe), **asdict(sft.cells[cell])}
    return {
        **{name: str(value) for name, value in told.items() if name != "model"},
        "runs": str(len(sft.train)),
        "unsafe": str(sum(lesson.run.unsafe for lesson in sft.train)),
        "twins": str(sum(bool(lesson.reply.twin) for lesson in sft.train) // 2),
        "cells": str(len(sft.cells)),
        "best_epoch": str(chosen.number),
        "steps": str(chosen.steps),
    }
