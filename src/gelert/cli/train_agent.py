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
  gelert train agent --recipe examples/recipes/agent_rl.toml --from my-agent/adapter --out better/
  gelert eval-agent better/model --held parameters --count 20 --out runs/
  accelerate launch --num_processes 4 -m gelert.cli.main train agent --recipe examples/recipes/agent_sft_gpu.toml ...
"""


@click.command("agent", epilog=EPILOG)
@click.option(
    "--recipe",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A TOML file that says all of it: model, demonstrations or episodes, adapter, steps.",
)
@click.option("--from", "start", help="Begin with this model instead of the recipe's: a name, a folder or a hub id.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make or go on with."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def agent(path: Path, start: str | None, out: Path, as_json: bool) -> None:
    """Let a model learn to act: from demonstrations, or by reward in episodes that it plays, as the recipe has it.

    What it learns is what it says, behind the very tokens that it gets in play. A checkpoint is kept every few steps.
    OUT/adapter, or OUT/model where all weights were trained, is then an agent of `gelert eval-agent`.
    """
    from gelert.forge.agent_train import require
    from gelert.forge.recipe_file import document

    require()
    learn = _by_reward if "episodes" in document(path) else _shown
    told = learn(path, start, out)
    print(json.dumps(told) if as_json else "\n".join(f"{name:12} {value}" for name, value in told.items()))


def _shown(path: Path, start: str | None, out: Path) -> dict[str, object]:
    from gelert.forge.agent_sft import Keep
    from gelert.forge.agent_train import demonstrations, taught, train
    from gelert.forge.agent_train_recipe import Recipe

    recipe = Recipe.load(path, start)
    shown = recipe.demonstrations
    guard = open_guard(shown.guard) if shown.keep is Keep.GUARD else None
    found = taught(demonstrations(recipe, guard), recipe, out)
    for refusal in found.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    with watched("steps", recipe.steps) as done:
        return asdict(train(found, recipe, out, tell=done))


def _by_reward(path: Path, start: str | None, out: Path) -> dict[str, object]:
    from gelert.forge.agent_rl import train
    from gelert.forge.agent_rl_recipe import Recipe

    recipe = Recipe.load(path, start)
    with watched("steps", recipe.steps) as done:
        return asdict(train(recipe, out, tell=done))
