"""Which influence method tells what a run is worth? Retraining judges all of them, in one run and on the same fits.

- ``real``: labelled runs read by the default guard's model, one source the target at a time: the linear datamodelling
  score, leave-group-out and planted flips with 95 % intervals, seconds, and bytes kept for each candidate; then how
  suspect labels agree with planted flips, at several thresholds;
- ``planted``: the same table on gradients with planted structure, from nothing;
- ``size``: the time to fit N candidates, to choose the damping, to score them exactly and to keep a budget of them.

    python benchmarks/influence.py planted
    python benchmarks/influence.py size --candidates 10000 --budget 1000
    python benchmarks/influence.py real --data DIR... --features DIR [--twins N] [--retrain guard]
"""

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.evals.benches import Labelled, load_labelled
from gelert.forge.guard_head import fit, normalised, scores
from gelert.forge.influence.heads import head_problem
from gelert.forge.influence.problem import Problem, Products, Surface
from gelert.forge.influence.registry import named
from gelert.forge.influence.solve import best_damping
from gelert.forge.lds import Retrain, in_sample_space, markdown, suspicions, suspicions_markdown, table
from gelert.forge.make_guard import DEFAULT, pool_reader
from gelert.forge.pool import Pool
from gelert.forge.purify import Fate, Names, purify
from gelert.forge.twins import twins

Doubles = NDArray[np.float64]

WIDTH, SPREAD, FAMILIES = 256, 0.4, 20
"""Of the planted gradients: numbers, noise on the family, and families of like runs."""


FLIPPED = 0.05
"""Share of labels turned to see whether they become suspects."""

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)


def planted(candidates: int, targets: int, *, wrong: float = 0.05, seed: int = 0) -> tuple[Problem, list[str]]:
    """Families of like runs; a few directions tell the label, a few labels are wrong, texts name the family."""
    random = np.random.default_rng(seed)
    centers, verdict = random.normal(size=(FAMILIES, WIDTH)), random.normal(size=WIDTH)
    family = random.integers(FAMILIES, size=candidates + targets)
    rows = (centers[family] + SPREAD * random.normal(size=(len(family), WIDTH))) / np.sqrt(WIDTH)
    labels = np.where(rows @ verdict + 0.1 * random.normal(size=len(family)) > 0, 1.0, -1.0)
    given = np.where(random.random(candidates) < wrong, -labels[:candidates], labels[:candidates])
    texts = [f"family{f} " * int(n) for f, n in zip(family, random.integers(1, 9, size=len(family)), strict=True)]
    first = slice(candidates)
    rest = slice(candidates, None)
    surface = Surface(tuple(texts[first]), tuple(texts[rest]), rows[first, :64], rows[rest, :64])
    products = Products.of_gradients(rows[first], rows[rest])
    lengths = random.integers(1, 4, size=candidates).astype(np.float64)
    problem = Problem.posed(products, given, labels[rest], lengths, damping=1.0, surface=surface)
    return problem, [f"family {f}" for f in family[first]]


def whole_guard(pool: Pool, own: NDArray[np.intp], aims: NDArray[np.intp]) -> Retrain:
    """The guard itself fitted again, normalised to the targets as a user's own logs would be."""
    test = pool.take(aims)

    def retrain(places: NDArray[np.intp]) -> Doubles:
        return scores(normalised(fit(pool.take(own[places]), DEFAULT.recipe), test), test)

    return retrain


def on_real(examples: Sequence[Labelled], features: Path, retrain: str, subsets: int) -> None:
    pool = pool_reader(DEFAULT, features).pool(examples)
    for name in pool.mixed():
        aims, own = np.flatnonzero(pool.source == name), np.flatnonzero(pool.source != name)
        problem = head_problem(pool, examples, aims.tolist(), damping=DEFAULT.recipe.ridge)
        judge = in_sample_space(problem) if retrain == "head" else whole_guard(pool, own, aims)
        groups = [pool.group[i] for i in own]
        show(name, problem, groups, judge, subsets)
        show_suspects(problem, groups)


def show(name: str, problem: Problem, groups: Sequence[str], judge: Retrain, subsets: int) -> None:
    m, n = problem.products.cross.shape
    kept = problem.products.gram.nbytes + problem.products.cross.nbytes
    width = problem.products.parameters
    print(f"\n{name}: {n} candidates, {m} targets, {width} parameters, {kept // n} bytes a candidate")
    print(markdown(table(problem, groups, judge, subsets=subsets)), flush=True)


def show_suspects(problem: Problem, groups: Sequence[str]) -> None:
    print(f"\nsuspect labels, flips planted at {FLIPPED:.0%}:")
    print(suspicions_markdown(suspicions(problem, groups, THRESHOLDS, share=FLIPPED)), flush=True)


def at_size(candidates: int, budget: int) -> None:
    started = time.perf_counter()
    problem, families = planted(candidates, 200)
    posed = time.perf_counter()
    best_damping(problem.products.gram, problem.labels, problem.lengths, families)
    damped = time.perf_counter()
    named("exact")(problem)
    scored = time.perf_counter()
    label = ["unsafe" if y > 0 else "safe" for y in problem.labels]
    names = Names(tuple(map(str, range(candidates))), tuple(map(str, range(200))), tuple(label), tuple(families))
    fates = [choice.fate for choice in purify(problem, names, budget)]
    chosen = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("| candidates | budget | kept | suspect | fit, s | damping, s | exact, s | purify, s | peak, GiB |")
    print("|---" * 9 + "|")
    counts = f"{fates.count(Fate.KEEP)} | {fates.count(Fate.SUSPECT)}"
    seconds = f"{posed - started:.1f} | {damped - posed:.1f} | {scored - damped:.1f} | {chosen - scored:.1f}"
    print(f"| {candidates} | {budget} | {counts} | {seconds} | {peak:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["real", "planted", "size"])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="labelled runs; every folder is a source")
    parser.add_argument("--features", type=Path, help="what the model read, kept here and reused")
    parser.add_argument("--twins", type=int, default=0, help="variants of each synthesised pair among the runs")
    parser.add_argument("--retrain", choices=["head", "guard"], default="head", help="what is fitted again")
    parser.add_argument("--subsets", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--budget", type=int, default=1_000)
    options = parser.parse_args()
    match options.what:
        case "real":
            examples = [*load_labelled(options.data).labelled, *twins(options.twins)]
            on_real(examples, options.features, options.retrain, options.subsets)
        case "planted":
            problem, families = planted(600, 50)
            show("planted", problem, families, in_sample_space(problem), options.subsets)
            clean, runs = planted(600, 50, wrong=0)
            show_suspects(clean, [str(i) for i in range(len(runs))])
        case _:
            at_size(options.candidates, options.budget)


if __name__ == "__main__":
    main()
