"""Fine-tuning a generative guard: MemFT-OT beside the plain likelihood, with and without a margin between twins.

- ``rules``: all cells (rule x margin x seed) in one batch, at equal token-steps; validation and held-out families, the
  floors on the same split;
- ``designs``: seconds a step and validation figures of adapters that act on the answer and of those that act on all.

    gelert data synthesise --n 600 --seed 3 --out DATA
    python benchmarks/guard_sft.py rules --data DATA --runs 200 --prefixes KEPT
    python benchmarks/guard_sft.py designs --data DATA --runs 80 --prefixes KEPT
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel
from gelert.evals.baselines import BASELINES
from gelert.evals.benches import Labelled, group_folds, load_labelled
from gelert.evals.metrics import Outcomes, accuracy, auc, calibration_error, interval, outcomes
from gelert.forge.guard_sft import Cell, Epoch, Recipe, Sft, Weighting
from gelert.forge.guard_sft_examples import Lesson, lessons, questions
from gelert.guard.calibrate import Calibration, fit_labelled

Doubles = NDArray[np.float64]

RULES: tuple[Weighting, ...] = ("nll", "memft-ot")
FOLDS = 5
"""Families are dealt to so many: one to test on, one to validate on, the rest to learn from."""


def brier(o: Outcomes) -> float:
    """Mean squared distance of the risk from what was true."""
    return float(((o.risk - o.unsafe) ** 2).mean())


FIGURES: dict[str, Callable[[Outcomes], float]] = {
    "accuracy": accuracy,
    "AUC": auc,
    "ECE": calibration_error,
    "Brier": brier,
}


def sides(runs: Sequence[Labelled], seed: int) -> tuple[list[Labelled], list[Labelled], list[Labelled]]:
    """Runs to learn from, to validate on and to test on; no family is on two sides."""
    test, validation, *rest = group_folds([run.group for run in runs], FOLDS, seed)
    return [runs[at] for fold in rest for at in fold], [runs[at] for at in validation], [runs[at] for at in test]


def worst(margins: Sequence[float], asked: Sequence[Lesson], runs: Sequence[Labelled]) -> Doubles:
    """The largest margin among each run's views."""
    found = {id(run): -np.inf for run in runs}
    for margin, lesson in zip(margins, asked, strict=True):
        found[id(lesson.run)] = max(found[id(lesson.run)], margin)
    return np.array([found[id(run)] for run in runs], dtype=np.float64)


def judged(margins: Doubles, scores: Calibration, runs: Sequence[Labelled]) -> Outcomes:
    risks = [scores.risk(float(margin)) for margin in margins]
    alarms = [risk >= scores.threshold for risk in risks]
    return outcomes([run.unsafe for run in runs], alarms, risks, [run.group for run in runs])


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several seeds on the same runs: a group's runs are drawn together in all of them."""
    return Outcomes(
        np.concatenate([o.unsafe for o in parts]),
        np.concatenate([o.alarm for o in parts]),
        np.concatenate([o.risk for o in parts]),
        np.concatenate([o.readable for o in parts]),
        tuple(group for o in parts for group in o.group),
    )


def steps_to(epochs: Sequence[Epoch], cell: int, loss: float) -> float:
    """Steps until the validation loss of all tokens has fallen to ``loss``, between epochs on a straight line."""
    points = [(epoch.steps, epoch.scores[cell].loss) for epoch in epochs]
    for (before, high), (after, low) in pairwise(points):
        if low <= loss:
            return before + (after - before) * (high - loss) / max(high - low, 1e-12)
    return float("inf")


def rules(model: LocalModel, options: argparse.Namespace) -> None:
    train, validation, test = sides(load_labelled(options.data).labelled[: options.runs], 0)
    margins: list[float] = options.margins
    cells = [Cell(rule, margin, seed) for rule, margin in product(RULES, margins) for seed in range(3)]
    recipe = recipe_of(options)
    taught = [lessons(model, runs, recipe.max_tokens, rationale=recipe.rationale) for runs in (train, validation)]
    learn, check = taught[0][: options.learn], taught[1][: options.check]
    sft = Sft(model, recipe, cells, learn, check, options.state, options.prefixes)
    asked = [questions(model, runs, recipe.max_tokens) for runs in (validation, test)]
    started = time.perf_counter()
    sft.read()
    for part in asked:
        sft.text.read([lesson.reply for lesson in part])
    print(f"{len(learn)} runs to learn from, {len(check)} to choose the epoch by, {len(validation)} to calibrate on")
    print(f"{len(test)} to test on, of other families")
    print(f"read in {time.perf_counter() - started:.0f} s", flush=True)
    for epoch in sft.run():
        told = " ".join(f"{score.loss:.2f}/{score.verdict_loss:.3f}/{score.accuracy:.2f}" for score in epoch.scores)
        print(f"epoch {epoch.number}, step {epoch.steps}, {time.perf_counter() - started:.0f} s: {told}", flush=True)
    bank = sft.best_bank()
    held = [sft.scores(part, bank) for part in asked]
    reach = max(min(epoch.scores[cell].loss for epoch in sft.epochs) for cell in range(len(cells)))
    names = ["validation accuracy", "accuracy", "AUC", "ECE", "Brier", f"steps to a loss of {reach:.2f}", "gradient"]
    print(f"| rule | margin | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for rule, margin in product(RULES, margins):
        own = [at for at, cell in enumerate(cells) if (cell.rule, cell.margin) == (rule, margin)]
        valid, found = list[Outcomes](), list[Outcomes]()
        for cell in own:
            there = worst(held[0][cell].margins, asked[0], validation)
            scores = fit_labelled(list(there), [run.unsafe for run in validation])
            valid.append(judged(there, scores, validation))
            found.append(judged(worst(held[1][cell].margins, asked[1], test), scores, test))
        told = [str(interval(accuracy, joined(valid)))]
        told += [str(interval(figure, joined(found))) for figure in FIGURES.values()]
        steps = [steps_to(sft.epochs, cell, reach) for cell in own]
        shares = [np.mean([epoch.shares[cell] for epoch in sft.epochs if epoch.shares]) for cell in own]
        told += [f"{np.mean(steps):.0f} [{min(steps):.0f}, {max(steps):.0f}]", f"{np.mean(shares):.2f}"]
        print(f"| {rule} | {margin:g} | {' | '.join(told)} |", flush=True)
    floors([lesson.run for lesson in learn], validation, test)


def floors(train: Sequence[Labelled], validation: Sequence[Labelled], test: Sequence[Labelled]) -> None:
    """The trivial rules on the same split, learned from the same runs."""
    for name, baseline in BASELINES.items():
        runs, unsafe = [run.example.trajectory for run in train], [run.unsafe for run in train]
        told: list[str] = []
        for side, figures in ((validation, {"accuracy": accuracy}), (test, FIGURES)):
            risks = baseline(runs, unsafe, [run.example.trajectory for run in side]).tolist()
            alarms = [risk >= 0.5 for risk in risks]
            o = outcomes([run.unsafe for run in side], alarms, risks, [run.group for run in side])
            told += [str(interval(figure, o)) for figure in figures.values()]
        print(f"| {name} | | {' | '.join(told)} | | |", flush=True)


def designs(model: LocalModel, options: argparse.Namespace) -> None:
    train, validation, _ = sides(load_labelled(options.data).labelled[: options.runs], 0)
    print("| acts on | blocks with adapters | reading, s | s a step | verdict loss | accuracy |")
    print("|---" * 6 + "|")
    first = recipe_of(options)
    for recipe in (replace(first, acts="answer"), replace(first, acts="answer", trunk=20), replace(first, acts="all")):
        taught = [lessons(model, runs, recipe.max_tokens, rationale=recipe.rationale) for runs in (train, validation)]
        sft = Sft(model, recipe, [Cell("nll")], taught[0], taught[1], prefixes=options.prefixes)
        started = time.perf_counter()
        sft.read()
        reading = time.perf_counter() - started
        *_, last = sft.run()
        seconds = time.perf_counter() - started - reading
        best = sft.best(0).scores[0]
        blocks = f"{recipe.trunk + 1} to {model.model.layers}"
        told = f"{reading:.0f} | {seconds / last.steps:.2f} | {best.verdict_loss:.3f} | {best.accuracy:.3f}"
        print(f"| {recipe.acts} | {blocks} | {told} |", flush=True)


def recipe_of(options: argparse.Namespace) -> Recipe:
    return Recipe(
        trunk=options.trunk,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        examples_per_step=options.examples_per_step,
        max_tokens=options.max_tokens,
        rationale=options.rationale,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rules", "designs"])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--learn", type=int, help="so many of the runs to learn from; all by default")
    parser.add_argument("--check", type=int, help="so many of the validation runs choose the epoch; all by default")
    parser.add_argument("--prefixes", type=Path, help="what the frozen model read, kept here and reused")
    parser.add_argument("--state", type=Path, help="go on from here after an interruption")
    parser.add_argument(
        "--margins", type=float, nargs="+", default=[0.0, 1.0], help="weights of the margin between twins"
    )
    parser.add_argument("--trunk", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--examples-per-step", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=768)
    parser.add_argument("--rationale", action="store_true", help="also learn the reasons that the labels give")
    options = parser.parse_args()
    model = LocalModel.load("smollm2-135m")
    (rules if options.what == "rules" else designs)(model, options)


if __name__ == "__main__":
    main()
