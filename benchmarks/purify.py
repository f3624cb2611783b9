"""What a thousand chosen runs are worth: guards fitted to selections of equal size, each source left out in turn.

Half of the left-out source's families are the targets that selection aims at; the guard is judged on the other half,
which nothing has seen. Candidates are all runs of the other sources, synthesised ones among them. Every selection is
fitted by the same ridge regression in sample space, on the guard's own features (each source in its own units, words
weighed by their rarity in all runs); every method meets the same halves.

Selection sees the targets' labels. So do two floors: the targets alone as training runs, and all candidates with them.

    python benchmarks/purify.py --data DIR... --features DIR [--twins N] [--budgets 250 500 1000] [--seeds 5]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from gelert.core.seeds import stream_seed
from gelert.evals.benches import WORLDS, Labelled, group_folds, load_labelled
from gelert.forge.influence.heads import window_products
from gelert.forge.influence.problem import Method, Problem
from gelert.forge.influence.registry import named
from gelert.forge.influence.runs import runs_problem
from gelert.forge.make_guard import DEFAULT, pool_reader
from gelert.forge.pool import Pool
from gelert.forge.purify import Fate, Names, name_of, purify, stratum
from gelert.forge.twins import SOURCE, twins

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

METHODS = (
    "greedy",
    "exact",
    "prism",
    "prism-per-token",
    "datainf",
    "random",
    "length-matched",
    "bm25",
    "representation",
)


@dataclass(frozen=True)
class Score:
    """One selection's guard on runs that nothing has seen."""

    source: str
    seed: int
    budget: int
    """0: no choice was made."""
    method: str
    kept: int
    accuracy: float


def halves(pool: Pool, source: str, seed: int) -> tuple[Places, Places]:
    """Targets and tests: the families of a source, split in two."""
    inside = np.flatnonzero(pool.source == source)
    first, second = group_folds([pool.group[i] for i in inside], 2, seed)
    return inside[first], inside[second]


def judged(pool: Pool, kernel: Doubles, train: Places, test: Places) -> float:
    """Accuracy on ``test`` of the ridge fitted to the windows of ``train``; the worst window of a run decides."""
    own, asked = np.flatnonzero(np.isin(pool.owner, train)), np.flatnonzero(np.isin(pool.owner, test))
    recipe, labels = DEFAULT.recipe, np.where(pool.unsafe[pool.owner], 1.0, -1.0)
    penalty = recipe.ridge / np.where(pool.from_source(WORLDS)[own], recipe.worlds_weight, 1.0)
    dual = solve(kernel[np.ix_(own, own)] + np.diag(penalty), labels[own], assume_a="pos")
    margins = np.full(len(pool.unsafe), -np.inf)
    np.maximum.at(margins, pool.owner[asked], kernel[np.ix_(asked, own)] @ dual)
    return float(((margins[test] >= 0) == pool.unsafe[test]).mean())


def compare(
    pool: Pool, kernel: Doubles, examples: Sequence[Labelled], source: str, seed: int, budgets: Sequence[int]
) -> list[Score]:
    """All methods and budgets for one source and one split of it."""
    targets, test = halves(pool, source, seed)
    offered = np.flatnonzero(pool.source != source)
    own = np.concatenate([offered, targets])
    aims = list(range(len(offered), len(own)))
    windows = np.concatenate([np.flatnonzero(pool.owner == run) for run in own.tolist()])
    inner, runs = kernel[np.ix_(windows, windows)], [examples[i] for i in own]
    problem = runs_problem(inner, 1, pool.take(own), runs, aims, damping=DEFAULT.recipe.ridge)
    names = Names(
        tuple(name_of(examples[i]) for i in offered.tolist()),
        tuple(name_of(examples[i]) for i in targets.tolist()),
        tuple(stratum(pool.diagnosis[i], unsafe=bool(pool.unsafe[i])) for i in offered),
        tuple(pool.group[i] for i in offered),
    )
    floors = {"all": offered, "targets": targets, "all and targets": own}
    found = [Score(source, seed, 0, name, len(runs), judged(pool, kernel, runs, test)) for name, runs in floors.items()]
    given = {
        name: once(named(name, stream_seed(seed, "purify", source) % 2**31)) for name in METHODS if name != "greedy"
    }
    for budget in budgets:
        for method in METHODS:
            choices = purify(problem, names, budget, method=given.get(method))
            kept = offered[[choice.fate is Fate.KEEP for choice in choices]]
            found.append(Score(source, seed, budget, method, len(kept), judged(pool, kernel, kept, test)))
    return found


def once(method: Method) -> Method:
    """The method, asked once: of one problem it gives the same each time."""
    kept: list[Doubles] = []

    def asked(problem: Problem) -> Doubles:
        if not kept:
            kept.append(method(problem))
        return kept[0]

    return asked


def markdown(found: Sequence[Score]) -> str:
    """Means over sources and splits; differences are paired."""
    rows = ["| budget | method | kept | accuracy | minus random | minus all |", "|---" * 6 + "|"]
    by = {(s.budget, s.method, s.source, s.seed): s for s in found}
    splits = sorted({(s.source, s.seed) for s in found})

    def accuracies(budget: int, method: str) -> Doubles:
        return np.array([by[budget, method, *split].accuracy for split in splits])

    sources = np.array([source for source, _ in splits])
    for budget, method in dict.fromkeys((s.budget, s.method) for s in found):
        own, kept = accuracies(budget, method), np.mean([by[budget, method, *split].kept for split in splits])
        chance = _paired(own - accuracies(budget, "random"), sources) if budget else ""
        told = f"{chance} | {_paired(own - accuracies(0, 'all'), sources)}"
        rows.append(f"| {budget or 'none'} | {method} | {kept:.0f} | {own.mean():.3f} | {told} |")
    return "\n".join(rows)


def _paired(differences: Doubles, sources: NDArray[np.str_]) -> str:
    """The mean difference with a 95 % interval: sources are drawn, then splits within each."""
    random, names = np.random.default_rng(0), np.unique(sources)
    of = [differences[sources == name] for name in names]
    drawn = [
        np.mean(
            [
                random.choice(of[place], size=len(of[place])).mean()
                for place in random.integers(len(of), size=len(of)).tolist()
            ]
        )
        for _ in range(5000)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled runs; every folder is a source")
    parser.add_argument("--features", type=Path, required=True, help="what the model read, kept here and reused")
    parser.add_argument("--twins", type=int, default=8, help="variants of each synthesised pair among the candidates")
    parser.add_argument("--sources", nargs="*", help="sources to leave out; all of --data with both classes by default")
    parser.add_argument("--budgets", type=int, nargs="*", default=[250, 500, 1000])
    parser.add_argument("--seeds", type=int, default=5, help="splits of each left-out source")
    options = parser.parse_args()
    examples = [*load_labelled(options.data).labelled, *twins(options.twins)]
    pool = pool_reader(DEFAULT, options.features).pool(examples)
    kernel = window_products(pool)
    own = [name for name in pool.mixed() if name not in (WORLDS, SOURCE)]
    found: list[Score] = []
    for seed in range(options.seeds):
        for source in options.sources or own:
            found += compare(pool, kernel, examples, source, seed, options.budgets)
            print(f"{source}, split {seed}", flush=True)
    print(markdown(found))


if __name__ == "__main__":
    main()
