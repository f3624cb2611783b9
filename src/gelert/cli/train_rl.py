"""``gelert train rl-guard``: reinforcement learning of a guard's diagnosis, with a reward for each axis."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from gelert.core.errors import InputError
from gelert.evals.benches import Labelled, load_labelled
from gelert.forge.adapter import ADAPTER, MODEL
from gelert.forge.guard_rl import Report, require, train
from gelert.forge.guard_rl_prompts import Asked
from gelert.forge.guard_rl_recipe import Recipe
from gelert.forge.guard_rl_reward import AXES

EPILOG = """\b
Examples:
  gelert train rl-guard --data data/worlds --model smollm2-135m --out my-rl/ --recipe examples/recipes/guard_rl.toml
  gelert train rl-guard --data data/worlds --model taught/ --out my-rl/ --steps 200   # stopped? the same line goes on
  accelerate launch --num_processes 4 -m gelert.cli.main train rl-guard ...           # on several GPUs
"""


@click.command("rl-guard", epilog=EPILOG)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="A labelled file or folder; may be given more than once. Unsafe runs with a diagnosis are learnt from.",
)
@click.option("--model", required=True, help="A model that answers the fine contract: name, folder or hub id.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make or go on with."
)
@click.option(
    "--recipe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file; what it does not say is as published.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps in all, instead of the recipe's.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def rl_guard(
    data: tuple[Path, ...], model: str, out: Path, recipe: Path | None, steps: int | None, as_json: bool
) -> None:
    """Let a guard learn its diagnosis from its own answers, each axis rewarded apart.

    One fold of whole families of runs is held out; the figures on it, before and after, are printed.
    """
    require()
    chosen = Recipe.load(recipe) if recipe else Recipe()
    if steps:
        chosen = chosen.model_copy(update={"steps": steps})
    report, questions = _watched(_labelled(data), model, out, chosen)
    for refusal in questions.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        print(_table(report, questions.safe))
    written = [str(out / name) for name in (ADAPTER, MODEL) if (out / name).is_dir()]
    print(f"wrote {' and '.join(written)}", file=sys.stderr)


def _labelled(paths: Sequence[Path]) -> list[Labelled]:
    loaded = load_labelled(paths)
    for refusal in loaded.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    if not any(one.unsafe for one in loaded.labelled):
        raise InputError(f"expected labelled unsafe runs, got none ({', '.join(map(str, paths))})")
    return list(loaded.labelled)


def _watched(data: Sequence[Labelled], model: str, out: Path, recipe: Recipe) -> tuple[Report, Asked]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("steps", total=recipe.steps)
        return train(data, model, out, recipe, tell=lambda step: bar.update(task, completed=step))


def _table(report: Report, safe: int) -> str:
    before, after = report.before, report.after
    rows = [
        f"{report.steps} steps on {report.runs} unsafe runs; {report.held_out} held out; {report.shortened} shortened"
        f" to fit; {safe} safe ones passed over",
        "",
        "| held out | most frequent leaf | before | after |",
        "|---|---|---|---|",
        *(
            f"| {axis.value} | {report.floor[axis]:.3f} | {before.accuracy[axis]:.3f} | {after.accuracy[axis]:.3f} |"
            for axis in AXES
        ),
        f"| in form | | {before.in_form:.3f} | {after.in_form:.3f} |",
        *(
            f"| over-labelled, {axis.value} | | {before.over_labelled[axis]:.3f} | {after.over_labelled[axis]:.3f} |"
            for axis in AXES
        ),
    ]
    return "\n".join(rows)
