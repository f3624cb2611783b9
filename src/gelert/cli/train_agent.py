"""``gelert train agent``: fine-tune an agent on demonstrations, by one recipe file."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from gelert.cli.guards import open_guard
from gelert.cli.progress import watched

EPILOG = """\b
Examples:
  gelert train agent --recipe examples/recipes/agent_sft.toml --out my-agent/   # stopped? the same line goes on
  gelert eval-agent my-agent/adapter --held worlds --count 20 --out runs/
  accelerate launch --num_processes 4 -m gelert.cli.main train agent --recipe examples/recipes/agent_sft_gpu.toml ...
"""


@click.command("agent", epilog=EPILOG)
@click.option(
    "--recipe",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A TOML file that says all of it: model, demonstrations, adapter, steps.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make or go on with."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def agent(path: Path, out: Path, as_json: bool) -> None:
    """Let a model learn to play as demonstrations do: OUT/adapter is then an agent of `gelert eval-agent`.

    What it learns is what it says, behind the very tokens that it gets in play. A checkpoint is kept every few steps.
    """
    from gelert.forge.agent_sft import Keep
    from gelert.forge.agent_train import ADAPTER, demonstrations, require, taught, train
    from gelert.forge.agent_train_recipe import Recipe

    require()
    recipe = Recipe.load(path)
    shown = recipe.demonstrations
    guard = open_guard(shown.guard) if shown.keep is Keep.GUARD else None
    found = taught(demonstrations(shown, recipe.seed, guard), recipe)
    for refusal in found.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    with watched("steps", recipe.steps) as done:
        report = train(found, recipe, out, tell=done)
    told = asdict(report)
    print(json.dumps(told) if as_json else "\n".join(f"{name:12} {value}" for name, value in told.items()))
    print(f"wrote {out / ADAPTER}", file=sys.stderr)
