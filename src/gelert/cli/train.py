"""``gelert train guard``: fit a head to labelled runs, measure it honestly, write its card."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource

from gelert.cli.progress import watched
from gelert.cli.spreading import spread_options
from gelert.cli.train_agent import agent
from gelert.cli.train_rl import rl_guard
from gelert.cli.train_sft import sft_guard
from gelert.core.errors import InputError
from gelert.evals.baselines import require
from gelert.forge.assemble import Assembly, Gathered, gather, synthesise, worlds_folder
from gelert.forge.make_guard import DEFAULT, Figures, Made, make, pool_reader
from gelert.forge.recipe import GuardRecipe
from gelert.forge.validate import axes_markdown, margins, markdown
from gelert.spread.workers import Workers

EPILOG = """\b
Examples:
  gelert train guard --data logs/a.jsonl --data logs/b.json --out my-guard/
  gelert train guard --data logs/ --validate-only --json
  gelert train guard --data data/worlds --choices kept.jsonl --out my-guard/
  gelert train guard --recipe examples/recipes/guard.toml --features cache/ --out my-guard/  # stopped? it goes on
  gelert train guard --data logs/ --workers 2 --out my-guard/
"""


@click.group()
def command() -> None:
    """Make guards and agents."""


command.add_command(sft_guard)
command.add_command(rl_guard)
command.add_command(agent)


@command.command(epilog=EPILOG)
@click.option(
    "--recipe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file that says all of it: data, worlds, purification, fit. Instead of the flags below it.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="A labelled file or folder; may be given more than once. Each folder is a source.",
)
@click.option(
    "--choices",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What gelert data purify wrote: runs that it names and does not keep are left out.",
)
@click.option(
    "--twins", "copies", default=8, show_default=True, help="Variants of each synthesised pair to add; 0 adds none."
)
@click.option("--name", default="own", show_default=True, help="The guard's name.")
@click.option("--model", default=DEFAULT.model, show_default=True, help="Base model.")
@click.option("--ridge", default=DEFAULT.recipe.ridge, show_default=True, help="Penalty on the squared weights.")
@click.option("--validate/--no-validate", default=True, help="Measure grouped and leave-one-source-out figures first.")
@click.option("--seed", default=0, show_default=True, help="Seed of twins, folds and bootstrap.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the new card.")
@click.option(
    "--features",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep hidden states and synthesised runs here and resume.",
)
@spread_options
@click.option("--validate-only", is_flag=True, help="Only measure; write no card.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def guard(
    recipe: Path | None,
    data: tuple[Path, ...],
    choices: Path | None,
    copies: int,
    name: str,
    model: str,
    ridge: float,
    validate: bool,
    seed: int,
    out: Path | None,
    features: Path | None,
    workers: int,
    ray: str,
    validate_only: bool,
    as_json: bool,
) -> None:
    """Fit a guard to labelled runs: accuracy beside its floors, then the card.

    Each figure is on runs that the fit did not see: grouped folds within a source, and each source left out in turn.
    """
    require()
    if out is None and not validate_only:
        raise InputError("expected --out FOLDER for the new card, or --validate-only, got neither")
    if recipe:
        _no_flags_beside_a_recipe()
        chosen = GuardRecipe.load(recipe)
    else:
        section = {"folders": [str(path) for path in data], "choices": str(choices) if choices else None}
        fit = {"model": model, "ridge": ridge, "twins": copies}
        told = {"name": name, "seed": seed, "data": section, "fit": fit, "validate": {"on": validate}}
        chosen = GuardRecipe.of(told, Path(), "the flags")
    gathered = _gathered(chosen, features)
    reader = pool_reader(chosen.fit.design(), features)
    with watched("reading runs", len(gathered.examples)) as done:
        pool = reader.pool(gathered.examples, done, Workers(workers, ray))
    measure = chosen.validation.on or validate_only
    assembly = Assembly(chosen, gathered, pool)
    figures = assembly.measured() if measure else Figures()
    if measure and as_json:
        told = {"verdict": [asdict(r) for r in figures.verdict], "axes": [asdict(r) for r in figures.axes]}
        print(json.dumps(told, indent=2))
    elif measure:
        rows = figures.verdict
        print("\n\n".join([markdown(rows), "\n".join(margins(rows)), axes_markdown(figures.axes)]))
    if out and not validate_only:
        made = Made(chosen.name, reader.model.fingerprint, chosen.words(), figures)
        make(out, chosen.fit.design(), made, pool, assembly.part)
        print(f"wrote {out}", file=sys.stderr)


def _no_flags_beside_a_recipe() -> None:
    """What a recipe says is not said twice."""
    context = click.get_current_context()
    said = {"data": "--data", "choices": "--choices", "copies": "--twins", "name": "--name", "model": "--model"}
    said |= {"ridge": "--ridge", "validate": "--validate", "seed": "--seed"}
    given = [flag for name, flag in said.items() if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise InputError(f"expected a recipe or the flags that it stands for, got both: {', '.join(given)}")


def _gathered(recipe: GuardRecipe, features: Path | None) -> Gathered:
    """The runs of a recipe, synthesised where they are not there yet."""
    folder = worlds_folder(recipe, features) if recipe.worlds else None
    if recipe.worlds and folder:
        with watched("making runs", recipe.worlds.runs) as done:
            for made in synthesise(recipe, folder):
                done(made)
    gathered = gather(recipe, folder)
    for refusal in gathered.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    if gathered.dropped:
        print(f"left out  {gathered.dropped} runs that {recipe.data.choices} does not keep", file=sys.stderr)
    return gathered
