"""Which guard? Designs on the same frozen model and the same data, every source left out in turn, beside bag-of-words.

- ``default``: what ships, and the same with one kind of features, or with another penalty;
- ``low-rank tail``: adapters in the blocks above the trunk, trained with the bed on the margin between the two labels.

    python benchmarks/guard_designs.py --data DIR... --features DIR [--only NAME] [--tail-steps N]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gelert.backends.local import LocalModel
from gelert.evals.benches import Labelled, load_labelled
from gelert.evals.metrics import accuracy, auc, interval, outcomes
from gelert.forge.guard_head import Recipe, fit, normalised, scores
from gelert.forge.make_guard import DEFAULT, QUESTION
from gelert.forge.pool import Pool, PoolReader
from gelert.forge.twins import twins
from gelert.guard.prompts.render import render
from gelert.lm.bank import Spec, new
from gelert.lm.loop import Config, Task, Training
from gelert.lm.model import LanguageModel
from gelert.lm.objective import Example, verdict
from gelert.lm.scoring import label_log_probs
from gelert.lm.trunk import Trunk

Scores = NDArray[np.float64]

TRUNK_LAYERS, HEAD_TOKENS, TAIL_TOKENS = 10, 64, 192
"""The low-rank tail has adapters in blocks 11 to 14, and reads a run's beginning and end, to be trainable here."""


def head(pool: Pool, held: str, recipe: Recipe) -> tuple[Scores, Scores]:
    """Cold and calibrated scores of a source by a head fitted to the others."""
    test = pool.take(np.flatnonzero(pool.source == held))
    fitted = fit(pool.take(np.flatnonzero(pool.source != held)), recipe)
    return scores(fitted, test), scores(normalised(fitted, test), test)


def only(pool: Pool, *, rows: slice | None = None, words: bool = False) -> Pool:
    """The pool with everything but these rows of states, or but the words, made constant."""
    states = np.zeros_like(pool.states)
    if rows is not None:
        states[:, rows] = pool.states[:, rows]
    return replace(pool, states=states, words=pool.words if words else pool.words * 0)


def low_rank_tail(model: LanguageModel, examples: list[Labelled], held: str, steps: int) -> tuple[Scores, Scores]:
    """Adapters above the trunk, trained on the margin between " unsafe" and " safe" at the question's end."""
    labels = [model.encode(" safe")[0], model.encode(" unsafe")[0]]
    assert labels[0] != labels[1]
    trunk = Trunk(model, TRUNK_LAYERS)
    bank = new(model, [Spec(rank=8, alpha=16.0)], blocks_from=TRUNK_LAYERS)
    rows = [_row(model, e, labels) for e in examples if e.source != held]
    config = Config(steps=steps, learning_rate=5e-4, examples_per_step=4)
    training = Training(trunk, bank, [Task(rows, config)], objective=verdict(labels))
    for step in training.run():
        if step.number % 50 == 0:
            print(f"    {held}: step {step.number}, loss {step.losses[0]:.3f}", flush=True)
    found: list[float] = []
    with torch.inference_mode():
        for item in (e for e in examples if e.source == held):
            row = _row(model, item, labels)
            hidden = trunk.upper(trunk.activations(row.ids)[None], linear=bank.linear([0]))
            pair = label_log_probs(model, hidden[0, -2][None], labels)[0]
            found.append(float(pair[1] - pair[0]))
    z = np.array(found)
    return z, z - np.median(z)


def _row(model: LanguageModel, item: Labelled, labels: list[int]) -> Example:
    ids = model.encode(render(item.example.trajectory).text)
    if len(ids) > HEAD_TOKENS + TAIL_TOKENS:
        ids = ids[:HEAD_TOKENS] + ids[-TAIL_TOKENS:]
    ids = [*ids, *model.encode(QUESTION), labels[int(item.unsafe)]]
    return Example(tuple(ids), (0.0,) * (len(ids) - 1) + (1.0,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--tail-steps", type=int, default=0, help="0 leaves the low-rank tail out")
    parser.add_argument("--only", default="", help="only designs whose name holds this")
    parser.add_argument("--left-out", nargs="+", help="only these sources; default all that hold both classes")
    parser.add_argument("--twins", type=int, default=8, help="variants of each synthesised pair among the runs")
    options = parser.parse_args()
    examples = [*load_labelled(options.data).labelled, *twins(options.twins)]
    local = LocalModel.load(DEFAULT.model, layers=DEFAULT.layers, dtype=DEFAULT.dtype)
    places, recipe = len(DEFAULT.places), DEFAULT.recipe
    pool = PoolReader(local, DEFAULT.places, DEFAULT.pools, DEFAULT.plan, DEFAULT.dtype, options.features).pool(
        examples
    )
    pools = {
        "default": pool,
        "readouts only": only(pool, rows=slice(places)),
        "pooled layers only": only(pool, rows=slice(places, None)),
        "states only": only(pool, rows=slice(None)),
        "words only": only(pool, words=True),
    }
    designs: dict[str, Callable[[str], tuple[Scores, Scores]]] = {
        name: lambda held, pool=used: head(pool, held, recipe) for name, used in pools.items()
    }
    for ridge in (0.3, 3.0):
        other = replace(recipe, ridge=ridge)
        designs[f"default, ridge {ridge:g}"] = lambda held, other=other: head(pool, held, other)
    if options.tail_steps:
        designs["low-rank tail"] = lambda held: low_rank_tail(local.model, examples, held, options.tail_steps)
    print("| design | left out | cold accuracy | calibrated accuracy | AUC | seconds |\n|---|---|---|---|---|---|")
    for name, design in ((n, d) for n, d in designs.items() if options.only in n):
        for held in options.left_out or pool.mixed():
            started = time.perf_counter()
            cold, calibrated = design(held)
            seconds = time.perf_counter() - started
            test = np.flatnonzero(pool.source == held)
            truth, groups = [bool(u) for u in pool.unsafe[test]], [pool.group[i] for i in test]
            both = [outcomes(truth, [bool(z > 0) for z in zs], list(zs), groups) for zs in (cold, calibrated)]
            figures = [str(interval(accuracy, o, draws=300)) for o in both]
            print(f"| {name} | {held} | {figures[0]} | {figures[1]} | {auc(both[1]):.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
