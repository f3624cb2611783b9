"""``gelert train sft-guard``: fine-tune a small generative guard on labelled runs, calibrate it, write its card."""

import json
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gelert.forge.guard_sft import Epoch, Sft, Weighting

EPILOG = """\b
Examples:
  gelert data synthesise --n 600 --seed 3 --out data/worlds
  gelert train sft-guard --data data/worlds --out my-guard/ --margin 1 --seeds 3
  gelert judge --guard my-guard/ run.jsonl
"""

PREFIXES = "prefixes"


@click.command("sft-guard", epilog=EPILOG)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="A labelled file or folder; may be given more than once.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the new guard.")
@click.option(
    "--rule",
    type=click.Choice(["nll", "memft-ot"]),
    default="nll",
    show_default=True,
    help="Learn all tokens alike, or only those that are not certain yet.",
)
@click.option(
    "--margin", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Weight of twins set apart; 0: none."
)
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True, help="Passes over the runs.")
@click.option(
    "--seeds", type=click.IntRange(1, 64), default=1, show_default=True, help="Adapters trained in one batch."
)
@click.option("--rank", type=click.IntRange(min=1), default=8, show_default=True, help="Of the adapter.")
@click.option("--max-tokens", type=click.IntRange(min=256), default=768, show_default=True, help="Of a view of a run.")
@click.option("--rationale", is_flag=True, help="Also learn to give the reason that an unsafe label gives.")
@click.option("--name", default="own", show_default=True, help="The guard's name.")
@click.option("--model", default="smollm2-135m", show_default=True, help="Base model.")
@click.option(
    "--trunk", type=click.IntRange(min=0), default=20, show_default=True, help="Lower blocks without adapters."
)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=2e-3, show_default=True)
@click.option("--examples-per-step", type=click.IntRange(min=2), default=8, show_default=True, help="An even number.")
@click.option(
    "--prefixes",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what the frozen model read here, some 10 MB a run. Default: in OUT until the guard is written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an epoch, and the card.")
def sft_guard(
    data: tuple[Path, ...],
    out: Path,
    rule: "Weighting",
    margin: float,
    epochs: int,
    seeds: int,
    rank: int,
    max_tokens: int,
    rationale: bool,
    name: str,
    model: str,
    trunk: int,
    learning_rate: float,
    examples_per_step: int,
    prefixes: Path | None,
    as_json: bool,
) -> None:
    """Fine-tune a small generative guard: verdict and diagnosis in words, from an adapter on a frozen model.

    A quarter of the groups (families, with their twins) is held out: it chooses seed and epoch, and calibrates. The
    state is kept after every epoch: the same line goes on where it was stopped.
    """
    from gelert.backends.local import LocalModel
    from gelert.evals.benches import load_labelled
    from gelert.forge.guard_sft import Recipe, Sft, cells_of
    from gelert.forge.guard_sft_card import make
    from gelert.forge.guard_sft_examples import lessons, split

    loaded = load_labelled(data)
    for refusal in loaded.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    sides = split(loaded.labelled)
    recipe = Recipe(
        model=model,
        max_tokens=max_tokens,
        trunk=trunk,
        rank=rank,
        learning_rate=learning_rate,
        epochs=epochs,
        examples_per_step=examples_per_step,
        rationale=rationale,
    )
    local = LocalModel.load(model)
    train, validation = (
        lessons(local, runs, max_tokens, rationale=rationale) for runs in (sides.train, sides.validation)
    )
    kept = prefixes or out / PREFIXES
    sft = Sft(local, recipe, cells_of(rule, margin, seeds), train, validation, out, kept)
    with _bar("reading runs", len(train) + len(validation)) as progress:
        sft.read(progress)
    for epoch in sft.run():
        print(json.dumps(asdict(epoch)) if as_json else _line(epoch), flush=True)
    with _bar("calibrating", len(sides.validation)) as progress:
        card = make(sft, out, name, sides.validation, progress)
    if prefixes is None:
        shutil.rmtree(kept, ignore_errors=True)
    print(card.model_dump_json() if as_json else _told(sft, card.figures, out))


def _line(epoch: "Epoch") -> str:
    scores = " | ".join(
        f"loss {s.loss:.3f}, verdict {s.verdict_loss:.3f}, right {s.accuracy:.3f}" for s in epoch.scores
    )
    return f"epoch {epoch.number} (step {epoch.steps}): {scores}"


def _told(sft: "Sft", figures: dict[str, str], out: Path) -> str:
    best = sft.best(sft.chosen)
    lines = [f"epoch {best.number} of seed {sft.cells[sft.chosen].seed} is the best"]
    return "\n".join([*lines, *(f"{name}: {figure}" for name, figure in figures.items()), f"wrote {out}"])


@contextmanager
def _bar(what: str, total: int) -> Generator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
