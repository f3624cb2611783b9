"""``gelert data influence`` and ``gelert data purify``: what runs are worth to target runs, and the best of them."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gelert.cli.progress import watched
from gelert.cli.spreading import spread_options
from gelert.core.errors import InputError
from gelert.spread.workers import Workers

if TYPE_CHECKING:
    from gelert.evals.benches import Labelled
    from gelert.forge.influence.problem import Problem
    from gelert.forge.pool import Pool

Command = TypeVar("Command", bound=Callable[..., None])

GREEDY = "greedy"


def _reading(command: Command) -> Command:
    """Options that both commands share."""
    paths = click.Path(exists=True, path_type=Path)
    folder = click.Path(file_okay=False, path_type=Path)
    for option in (
        click.argument("pool", type=paths, nargs=-1, required=True),
        click.option("--targets", type=paths, multiple=True, required=True, help="Labelled runs to be judged rightly."),
        click.option("--features", type=folder, help="Keep hidden states and gradients here and resume."),
        click.option("--model", help="Base model. Default: the default guard's."),
        click.option(
            "--gradients",
            type=click.Choice(["head", "adapter"]),
            default="head",
            show_default=True,
            help="Of the guard's head, or of a low-rank adapter in the model's last blocks (needs --features).",
        ),
        click.option("--ridge", type=float, help="Penalty of the fit. Default: what leaving out each group chooses."),
        spread_options,
        click.option("--seed", default=0, show_default=True, help="Of every draw."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    ):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n  gelert data influence data/worlds --targets benches/dev.json --method exact\n"
    "  gelert data influence data/worlds --targets benches/dev.json --validate --features cache/"
)
@_reading
@click.option(
    "--method", default="exact", show_default=True, help="exact, prism, bm25, random ...; a wrong name lists all."
)
@click.option("--top", default=5, show_default=True, help="How many of the best and of the worst are shown.")
@click.option("--validate", is_flag=True, help="Compare every method with what retraining gives.")
def influence(
    pool: tuple[Path, ...],
    targets: tuple[Path, ...],
    features: Path | None,
    model: str | None,
    gradients: str,
    ridge: float | None,
    workers: int,
    ray: str,
    seed: int,
    as_json: bool,
    method: str,
    top: int,
    validate: bool,
) -> None:
    """What each labelled run of POOL is worth to the verdicts on the targets.

    With --validate: the linear datamodelling score, leave-group-out and planted label flips for every method.
    """
    from gelert.forge.influence.problem import scores
    from gelert.forge.influence.registry import named
    from gelert.forge.lds import in_sample_space, markdown, table

    chosen = named(method, seed)
    read = _read(pool, targets, _Source(model, features, gradients, ridge, Workers(workers, ray)))
    if validate:
        rows = table(read.problem, [e.group for e in read.candidates], in_sample_space(read.problem), seed=seed)
        print(json.dumps([asdict(row) for row in rows], indent=2) if as_json else markdown(rows))
        return
    worth = scores(chosen(read.problem)).tolist()
    ranked = sorted(zip(worth, read.keys, strict=True), reverse=True)
    if as_json:
        print(json.dumps([{"key": key, "score": score} for score, key in ranked]))
        return
    shown = ranked if len(ranked) <= 2 * top else [*ranked[:top], *ranked[len(ranked) - top :]]
    for score, key in shown:
        print(f"{score:+.3e}  {key}")


@click.command(
    epilog="\b\nExamples:\n  gelert data purify data/worlds --targets benches/dev.json --budget 1000 --out kept.jsonl\n"
    "  gelert data purify data/worlds --targets benches/dev.json --budget 1000 --method prism --out prism.jsonl\n"
    "  gelert data purify data/worlds --targets benches/dev.json --budget 1000 --gradients adapter --features cache/"
    " --out kept.jsonl   # stopped? the same line goes on"
)
@_reading
@click.option("--budget", type=click.IntRange(min=1), required=True, help="How many runs to keep.")
@click.option("--method", default=GREEDY, show_default=True, help="Or a method of gelert data influence.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File of choices.")
def purify(
    pool: tuple[Path, ...],
    targets: tuple[Path, ...],
    features: Path | None,
    model: str | None,
    gradients: str,
    ridge: float | None,
    workers: int,
    ray: str,
    seed: int,
    as_json: bool,
    budget: int,
    method: str,
    out: Path,
) -> None:
    """Keep up to BUDGET runs of POOL, those that help most on the targets; name suspect labels.

    OUT has a record for every run: keep, drop or suspect label, the reason, and the targets it moves most.
    """
    from gelert.forge.influence.registry import named
    from gelert.forge.purify import Fate, Names, name_of, stratum, write
    from gelert.forge.purify import purify as choose

    chosen = None if method == GREEDY else named(method, seed)
    read = _read(pool, targets, _Source(model, features, gradients, ridge, Workers(workers, ray)))
    count = len(read.candidates)
    strata = [stratum(read.pool.diagnosis[i], unsafe=bool(read.pool.unsafe[i])) for i in range(count)]
    names = Names(
        tuple(read.keys), tuple(map(name_of, read.targets)), tuple(strata), tuple(e.group for e in read.candidates)
    )
    choices = choose(read.problem, names, budget, method=chosen)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, choices)
    fates = Counter(choice.fate for choice in choices)
    if as_json:
        print(json.dumps({fate.value: fates[fate] for fate in Fate}))
        return
    print(", ".join(f"{fates[fate]} {fate.value}" for fate in Fate) + f" ({out})")
    for choice in choices:
        if choice.fate is Fate.SUSPECT:
            print(f"{choice.fate.value}  {choice.key}: {choice.reason}")


@dataclass(frozen=True)
class _Read:
    """Candidates first, then targets, as runs and as the head sees them."""

    candidates: "Sequence[Labelled]"
    targets: "Sequence[Labelled]"
    pool: "Pool"
    problem: "Problem"

    @property
    def keys(self) -> list[str]:
        from gelert.forge.purify import name_of

        return [name_of(e) for e in self.candidates]


@dataclass(frozen=True)
class _Source:
    """What inner products come from."""

    model: str | None
    features: Path | None
    gradients: str
    ridge: float | None
    workers: Workers


def _read(pool: Sequence[Path], targets: Sequence[Path], source: _Source) -> _Read:
    from gelert.forge.influence.heads import head_problem
    from gelert.forge.make_guard import DEFAULT, Design, pool_reader
    from gelert.forge.pool import content

    if source.gradients == "adapter" and source.features is None:
        raise InputError("expected --features FOLDER to keep an adapter's gradients in, got none")
    wanted, offered = _labelled(targets), _labelled(pool)
    known = {content(e.example.trajectory) for e in wanted}
    candidates = [e for e in offered if content(e.example.trajectory) not in known]
    if not candidates or not wanted:
        raise InputError(f"expected labelled candidates and targets, got {len(candidates)} and {len(wanted)}")
    if len(candidates) < len(offered):
        print(f"left out  {len(offered) - len(candidates)} runs of the pool that are targets too", file=sys.stderr)
    runs, aims = [*candidates, *wanted], range(len(candidates), len(candidates) + len(wanted))
    model = source.model or DEFAULT.model
    with source.workers.ready():
        with watched("reading runs", len(runs)) as told:
            design = Design.of(model, DEFAULT.recipe.ridge)
            read = pool_reader(design, source.features).pool(runs, told, source.workers)
        if source.gradients == "adapter":
            return _Read(candidates, wanted, read, _of_adapter(read, runs, aims, source))
    return _Read(candidates, wanted, read, head_problem(read, runs, aims, damping=source.ridge))


def _of_adapter(pool: "Pool", runs: "Sequence[Labelled]", aims: Sequence[int], source: _Source) -> "Problem":
    from gelert.forge.influence.adapter import AdapterDesign, AdapterReader, adapter_problem
    from gelert.forge.make_guard import DEFAULT, QUESTION

    assert source.features is not None
    design, kept = AdapterDesign(QUESTION, plan=DEFAULT.plan), source.features / "gradients"
    reader = AdapterReader.load(source.model or DEFAULT.model, design, kept)
    with watched("differentiating windows", len(pool.owner)) as told:
        rows = reader.gradients(runs, told, source.workers)
    return adapter_problem(rows, reader.parameters, pool, runs, aims, damping=source.ridge)


def _labelled(paths: Sequence[Path]) -> "Sequence[Labelled]":
    from gelert.evals.benches import load_labelled

    loaded = load_labelled(paths)
    for refusal in loaded.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    return loaded.labelled
