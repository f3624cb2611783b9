"""What a thousand chosen runs are worth: guards fitted to selections of equal size, each source left out in turn.

Half of the left-out source's families are the targets that selection aims at; the guard is judged on the other half,
which nothing has seen. Candidates are all runs of the other sources, synthesised ones among them. Every selection is
fitted by the same code, and every method meets the same halves and the same floor of chance.

    python benchmarks/purify.py --data DIR... --features DIR [--twins N] [--budgets 250 500 1000] [--seeds 5]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.core.seeds import stream_seed
from gelert.evals.benches import Labelled, group_folds, load_labelled
from gelert.forge.guard_head import fit, normalised, scores
from gelert.forge.influence.heads import head_problem
from gelert.forge.influence.registry import named
from gelert.forge.make_guard import DEFAULT, pool_reader
from gelert.forge.pool import Pool
from gelert.forge.purify import Fate, Names, name_of, purify, stratum
from gelert.forge.twins import twins

Places = NDArray[np.intp]

METHODS = ("greedy", "exact", "prism", "prism-per-token", "datainf", "random", "length-matched", "bm25", "representation")


@dataclass(frozen=True)
class Score:
    """One selection's guard on runs that nothing has seen."""

    source: str
    seed: int
    budget: int
    """0: all candidates."""
    method: str
    kept: int
    accuracy: float


def halves(pool: Pool, source: str, seed: int) -> tuple[Places, Places]:
    """Targets and tests: the families of a source, split in two."""
    inside = np.flatnonzero(pool.source == source)
    first, second = group_folds([pool.group[i] for i in inside], 2, seed)
    return inside[first], inside[second]


def judged(pool: Pool, train: Places, targets: Places, test: Places) -> float:
    """Accuracy of a guard fitted to ``train`` and in units of the targets, without their labels."""
    head = normalised(fit(pool.take(train), DEFAULT.recipe), pool.take(targets))
    return float(((scores(head, pool.take(test)) >= 0) == pool.unsafe[test]).mean())


def compare(
    pool: Pool, examples: Sequence[Labelled], source: str, seed: int, budgets: Sequence[int]
) -> list[Score]:
    """All methods and budgets for one source and one split of it."""
    targets, test = halves(pool, source, seed)
    offered = np.flatnonzero(pool.source != source)
    own = np.concatenate([offered, targets])
    aims = list(range(len(offered), len(own)))
    problem = head_problem(pool.take(own), [examples[i] for i in own], aims, damping=DEFAULT.recipe.ridge)
    names = Names(
        tuple(name_of(examples[i]) for i in offered),
        tuple(name_of(examples[i]) for i in targets),
        tuple(stratum(pool.diagnosis[i], unsafe=bool(pool.unsafe[i])) for i in offered),
        tuple(pool.group[i] for i in offered),
    )
    found = [Score(source, seed, 0, "all", len(offered), judged(pool, offered, targets, test))]
    for budget in budgets:
        for method in METHODS:
            chosen = None if method == "greedy" else named(method, stream_seed(seed, "purify", source) % 2**31)
            choices = purify(problem, names, budget, method=chosen)
            kept = offered[[choice.fate is Fate.KEEP for choice in choices]]
            found.append(Score(source, seed, budget, method, len(kept), judged(pool, kept, targets, test)))
    return found


def markdown(found: Sequence[Score]) -> str:
    """Means over sources and splits; differences are paired and drawn again by source and split."""
    rows = ["| budget | method | kept | accuracy | minus random | minus all |", "|---" * 6 + "|"]
    by = {(s.budget, s.method, s.source, s.seed): s for s in found}
    splits = sorted({(s.source, s.seed) for s in found})
    everything = np.array([by[0, "all", *split].accuracy for split in splits])
    rows.append(f"| all | all | {np.mean([by[0, 'all', *s].kept for s in splits]):.0f} | {everything.mean():.3f} | | |")
    for budget in sorted({s.budget for s in found} - {0}):
        chance = np.array([by[budget, "random", *split].accuracy for split in splits])
        for method in METHODS:
            own = np.array([by[budget, method, *split].accuracy for split in splits])
            kept = np.mean([by[budget, method, *split].kept for split in splits])
            told = f"{_paired(own - chance)} | {_paired(own - everything)}"
            rows.append(f"| {budget} | {method} | {kept:.0f} | {own.mean():.3f} | {told} |")
    return "\n".join(rows)


def _paired(differences: NDArray[np.float64]) -> str:
    random = np.random.default_rng(0)
    drawn = differences[random.integers(len(differences), size=(5000, len(differences)))].mean(1)
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
    own = [name for name in pool.mixed() if name not in ("worlds", "twins")]
    found: list[Score] = []
    for seed in range(options.seeds):
        for source in options.sources or own:
            found += compare(pool, examples, source, seed, options.budgets)
            print(f"{source}, split {seed}", flush=True)
    print(markdown(found))


if __name__ == "__main__":
    main()
