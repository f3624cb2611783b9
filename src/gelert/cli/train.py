"""``gelert train guard``: fit a head to labelled runs, measure it honestly, write its card."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from gelert.cli.train_rl import rl_guard
from gelert.cli.train_sft import sft_guard
from gelert.core.errors import InputError
from gelert.evals.baselines import require
from gelert.evals.benches import Labelled, load_labelled
from gelert.forge.make_guard import DEFAULT, Design, Figures, make, pool_reader
from gelert.forge.pool import Pool, PoolReader
from gelert.forge.twins import twins
from gelert.forge.validate import axes, axes_markdown, margins, markdown, table

EPILOG = """\b
Examples:
  gelert train guard --data logs/a.jsonl --data logs/b.json --out my-guard/
  gelert train guard --data logs/ --validate-only --json
"""


@click.group()
def command() -> None:
    """Make guards."""


command.add_command(sft_guard)
command.add_command(rl_guard)


@command.command(epilog=EPILOG)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="A labelled file or folder; may be given more than once. Each folder is a source.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the new card.")
@click.option(
    "--twins", "copies", default=8, show_default=True, help="Variants of each synthesised pair to add; 0 adds none."
)
@click.option("--name", default="own", show_default=True, help="The guard's name.")
@click.option("--model", default=DEFAULT.model, show_default=True, help="Base model.")
@click.option("--ridge", default=DEFAULT.recipe.ridge, show_default=True, help="Penalty on the squared weights.")
@click.option(
    "--features", type=click.Path(file_okay=False, path_type=Path), help="Keep hidden states here and resume."
)
@click.option("--validate/--no-validate", default=True, help="Measure grouped and leave-one-source-out figures first.")
@click.option("--validate-only", is_flag=True, help="Only measure; write no card.")
@click.option("--seed", default=0, show_default=True, help="Seed of folds and bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def guard(
    data: tuple[Path, ...],
    out: Path | None,
    copies: int,
    name: str,
    model: str,
    ridge: float,
    features: Path | None,
    validate: bool,
    validate_only: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a guard to labelled runs: accuracy beside its floors, then the card.

    Each figure is on runs that the fit did not see: grouped folds within a source, and each source left out in turn.
    """
    require()
    if out is None and not validate_only:
        raise InputError("expected --out FOLDER for the new card, or --validate-only, got neither")
    loaded = load_labelled(data)
    for refusal in loaded.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    design = Design.of(model, ridge)
    examples = [*loaded.labelled, *twins(copies, seed)]
    reader = pool_reader(design, features)
    pool = _read(reader, examples)
    measure = validate or validate_only
    rows = table(examples, pool, design.recipe, seed=seed) if measure else []
    named = axes(pool, design.recipe, seed=seed) if measure else []
    if measure and as_json:
        print(json.dumps({"verdict": [asdict(r) for r in rows], "axes": [asdict(r) for r in named]}, indent=2))
    elif measure:
        print("\n\n".join([markdown(rows), "\n".join(margins(rows)), axes_markdown(named)]))
    if out and not validate_only:
        make(out, name, design, reader.model.fingerprint, pool, Figures(tuple(rows), tuple(named)), seed=seed)
        print(f"wrote {out}", file=sys.stderr)


def _read(reader: PoolReader, examples: Sequence[Labelled]) -> Pool:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading runs", total=len(examples))
        return reader.pool(examples, lambda done: bar.update(task, completed=done))
