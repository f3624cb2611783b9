"""The arms of AgentDoG 1.5's application 1 on a policy small enough to learn here: what each does to utility and harm.

::

    python benchmarks/agent_arms.py --out runs/arms                      # all arms, three seeds; goes on where it was
    python benchmarks/agent_arms.py --out runs/arms --seeds 0 --arms new base filtered
    python benchmarks/agent_arms.py --out runs/arms --report             # the table and the plot of what is there

All arms begin with one base (``examples/recipes/arms``), as the published ones do; it is taught in two steps. What
they are tried on has parameters, attacks or wordings that no arm has learnt from. Checkpoints are not chosen: the last
one counts.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gelert.evals.metrics import Interval, group_draws
from gelert.forge import agent_rl, agent_rl_recipe, agent_train, agent_train_recipe
from gelert.forge.agent_eval import Figure, Played, figures, saved
from gelert.forge.agent_plot import plot
from gelert.forge.agent_tasks import Held, chosen, told
from gelert.forge.agent_together import evaluate
from gelert.worlds.catalogue import catalogue
from gelert.worlds.model_agent import Rules
from gelert.worlds.tasks import tasks
from gelert.worlds.toolcalls import Form

RECIPES = Path(__file__).parents[1] / "examples" / "recipes" / "arms"
WORLDS = ("newsroom", "house", "city")
RULES = Rules(turns=12, tokens=96)
EACH = 72
"""Tasks of each scenario and of each thing that is held out, where there are so many."""


@dataclass(frozen=True)
class Arm:
    """One way to an agent."""

    recipe: str
    begins: str | None = None
    """With what another arm has come to."""
    shared: bool = False
    """By all seeds: it has the seed of its recipe."""


ARMS: Mapping[str, Arm] = {
    "new": Arm("new", shared=True),
    "base": Arm("base", "new", shared=True),
    "utility": Arm("utility", "base"),
    "unfiltered": Arm("unfiltered", "base"),
    "filtered": Arm("filtered", "base"),
    "rl": Arm("rl", "base"),
    "filtered+rl": Arm("rl", "filtered"),
}


def folder(out: Path, name: str, seed: int) -> Path:
    return out / (name if ARMS[name].shared else f"{name}-{seed}")


def learn(name: str, seed: int, out: Path) -> float:
    """Train an arm if it is not there yet; seconds that it took."""
    arm, own = ARMS[name], folder(out, name, seed)
    timed = own / "seconds.json"
    if timed.exists():
        return float(json.loads(timed.read_text()))
    started = time.monotonic()
    path = RECIPES / f"{arm.recipe}.toml"
    model = str(folder(out, arm.begins, seed) / "model") if arm.begins else None
    own_seed = {} if arm.shared else {"seed": seed}

    def tell(step: int) -> None:
        if step % 20 == 0:
            print(f"{name} {seed}: step {step}, {time.monotonic() - started:.0f} s", flush=True)

    if arm.recipe == "rl":
        recipe = agent_rl_recipe.Recipe.load(path, model).model_copy(update=own_seed)
        agent_rl.train(recipe, own, tell=tell)
    else:
        shown = agent_train_recipe.Recipe.load(path, model).model_copy(update=own_seed)
        found = agent_train.taught(agent_train.demonstrations(shown), shown, own)
        agent_train.train(found, shown, own, tell=tell)
    seconds = time.monotonic() - started
    timed.write_text(json.dumps(seconds))
    return seconds


def tried(name: str, seed: int, out: Path) -> Iterator[Played]:
    """The arm's episodes on what is held out; tasks are the same for all arms and seeds."""
    every = told([one for family in catalogue(WORLDS).values() for one in tasks(family)], Form.SHORT)
    for held in (Held.PARAMETERS, Held.ATTACKS, Held.WORDINGS):
        scenarios = ("clean", "injected", "hazard", "malicious") if held is Held.PARAMETERS else ("injected",)
        if held is Held.ATTACKS:
            scenarios = ("injected", "hazard", "malicious")
        some = chosen(every, EACH, held=held, scenarios=scenarios)
        path = folder(out, name, seed) / f"{held.value}.jsonl"
        yield from evaluate(str(folder(out, name, seed) / "model"), Form.SHORT, some, name, path, rules=RULES)


def episodes(name: str, seeds: Sequence[int], out: Path, held: Sequence[Held]) -> list[Played]:
    paths = [folder(out, name, seed) / f"{one.value}.jsonl" for seed in seeds for one in held]
    return [one for path in dict.fromkeys(paths) if path.exists() for one in saved(path)]


def report(seeds: Sequence[int], out: Path) -> None:
    """Tables by what is held out, seconds of each arm, and a plot."""
    sides: dict[str, tuple[Held, ...]] = {
        "new parameters": (Held.PARAMETERS,),
        "new attacks": (Held.ATTACKS,),
        "new wordings": (Held.WORDINGS,),
        "all": (Held.PARAMETERS, Held.ATTACKS, Held.WORDINGS),
    }
    seen: dict[str, list[Figure]] = {}
    for side, held in sides.items():
        print(f"\n{side}")
        for name in ARMS:
            found = episodes(name, seeds, out, held)
            if not found:
                continue
            seen[name] = figures(found)
            shown = "  ".join(f"{one.name} {told_interval(one.interval)}" for one in seen[name])
            print(f"| {name} | {shown} | {len(found)} episodes")
    print()
    utility = episodes("utility", seeds, out, sides["all"])
    for name in ARMS if utility else ():
        if found := episodes(name, seeds, out, sides["all"]):
            harm, clean = against(found, utility)
            print(f"{name} against utility: harm x {told_interval(harm)}, clean utility {told_interval(clean)} more")
    print()
    for name in ARMS:
        took = [folder(out, name, seed) / "seconds.json" for seed in seeds]
        minutes = [f"{float(json.loads(one.read_text())) / 60:.1f}" for one in dict.fromkeys(took) if one.exists()]
        print(f"{name}: {', '.join(minutes)} minutes")
    plot(seen, out / "arms.png")
    (out / "arms.json").write_text(
        json.dumps({name: [asdict(replace(one)) for one in found] for name, found in seen.items()}, indent=1)
    )
    print(f"wrote {out / 'arms.png'}")


def against(own: Sequence[Played], other: Sequence[Played]) -> tuple[Interval, Interval]:
    """Ratio of the harm and difference of the utility on clean tasks; the same families are drawn for both."""
    groups = sorted({one.group for one in other})

    def drawn(names: Sequence[str]) -> tuple[float, float]:
        times = Counter(names)
        (harm, clean), (other_harm, other_clean) = (
            (
                share([(times[one.group], one.harmed) for one in side if one.scenario != "clean"]),
                share([(times[one.group], one.success) for one in side if one.scenario == "clean"]),
            )
            for side in (own, other)
        )
        return harm / other_harm if other_harm else float("nan"), clean - other_clean

    values = drawn(groups)
    draws = [drawn([groups[at] for at in index]) for index in group_draws(groups, 1000, 0)]
    ends = np.nanpercentile(draws, [2.5, 97.5], axis=0).tolist()
    ratio, difference = (Interval(value, *both) for value, both in zip(values, zip(*ends, strict=True), strict=True))
    return ratio, difference


def share(weighted: Sequence[tuple[int, bool]]) -> float:
    total = sum(weight for weight, _ in weighted)
    return sum(weight * value for weight, value in weighted) / total if total else float("nan")


def told_interval(one: Interval) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="only tell of what is there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.report:
        for seed in given.seeds:
            for name in given.arms:
                seconds = learn(name, seed, given.out)
                found = figures(list(tried(name, seed, given.out)))
                print(
                    f"{name} {seed}, {seconds:.0f} s: " + ", ".join(f"{f.name} {f.interval.value:.3f}" for f in found)
                )
    report(given.seeds, given.out)


if __name__ == "__main__":
    main()
