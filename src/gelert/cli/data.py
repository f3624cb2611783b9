"""``gelert data``: labelled runs out of the worlds; plan, make, check and describe them."""

import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from gelert.cli.data_demonstrate import demonstrate
from gelert.cli.data_influence import influence, purify
from gelert.cli.spreading import spread_options
from gelert.core.errors import InputError
from gelert.core.trajectory import Setting

if TYPE_CHECKING:
    from gelert.backends.base import Backend

Made = TypeVar("Made")

EPILOG = """\b
Examples:
  gelert data sample --n 1000
  gelert data synthesise --n 1000 --seed 1 --out data/worlds --workers 2
  gelert data check data/worlds --against benches/test.json
  gelert data card data/worlds --plot
  gelert train guard --data data/worlds --out my-guard/
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Labelled runs out of the worlds: safe and unsafe twins whose labels are read off the state, not off words."""


_folder = click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
_n = click.option("--n", type=click.IntRange(min=1), required=True, help="How many runs.")
_seed = click.option("--seed", default=0, show_default=True, help="Of every draw; the same seed gives the same bytes.")
_setting = click.option(
    "--setting",
    "settings",
    type=click.Choice([one.value for one in Setting]),
    multiple=True,
    help="Only worlds of this setting; may be given more than once. Default: all.",
)
_world = click.option("--world", "worlds", multiple=True, metavar="WORLD|FILE", help="Only this world. Default: all.")


@command.command(
    epilog="\b\nExamples:\n  gelert data sample --n 1000\n  gelert data sample --n 200 --setting codex --json"
)
@_n
@_seed
@_setting
@_world
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every item.")
def sample(n: int, seed: int, settings: tuple[str, ...], worlds: tuple[str, ...], as_json: bool) -> None:
    """Plan only: what would be made, and what it covers."""
    from gelert.forge import sample as plans
    from gelert.forge.synthesise_disk import counted
    from gelert.worlds.catalogue import catalogue

    items = plans.sample(catalogue(worlds), n, seed, [Setting(one) for one in settings])
    found = counted(items)
    if as_json:
        rows = [{"task": one.task.name, "outcome": one.outcome.value, "agent": one.agent} for one in items]
        print(json.dumps({**found, "items": rows}))
    else:
        _tell(found)


@command.command(
    epilog="\b\nExamples:\n  gelert data synthesise --n 1000 --out data/worlds\n"
    "  gelert data synthesise --n 10000 --seed 1 --out data/worlds --workers 2   # stopped? the same line goes on\n"
    "  gelert data synthesise --n 1000000 --out data/many --ray 10.0.0.1:6379\n"
    "  gelert data synthesise --n 500 --out data/codex --setting codex --rewrite http://127.0.0.1:8000/v1#some-model"
)
@_n
@_seed
@_setting
@_world
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make or fill.")
@spread_options
@click.option("--rewrite", metavar="URL#MODEL", help="A model that says the agents' words in other words.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def synthesise(
    n: int,
    seed: int,
    settings: tuple[str, ...],
    worlds: tuple[str, ...],
    out: Path,
    workers: int,
    ray: str,
    rewrite: str | None,
    as_json: bool,
) -> None:
    """Make N runs in OUT/records.jsonl: half of them unsafe, each with a safe twin.

    The file is the same to the byte for the same N, seed and settings, whatever the workers and the interruptions.
    """
    from gelert.forge.synthesise_disk import Config, begin_folder, fill
    from gelert.spread.workers import Workers

    if rewrite is not None and not all(rewrite.partition("#")):
        raise InputError(f"expected --rewrite URL#MODEL, got {rewrite!r}")
    config = Config(n, seed, tuple(Setting(one) for one in settings), worlds, rewrite or "")
    spread = Workers(workers, ray)
    begun = begin_folder(out, config)
    if begun.dropped:
        print(f"dropped  {begun.dropped} is not whole; it and those after it are made again", file=sys.stderr)
    told = {"runs": n, "kept": begun.done, "made": 0, "asked": 0, "refused": 0, "failed": 0}
    with _backend(config.rewrite) as backend:
        for one in _watched(fill(begun, spread, backend), n - begun.done, "making runs"):
            told["made"] += 1
            if one:
                told["asked"] += one.asked
                told["refused"] += one.refused
                told["failed"] += one.failed
    if as_json:
        print(json.dumps(told))
    else:
        print(f"{told['made']} runs made, {told['kept']} were there ({out})")
        if rewrite:
            print(f"{told['asked']} texts sent, {told['refused']} rewrites refused, {told['failed']} unanswered")


@command.command(
    epilog="\b\nExamples:\n  gelert data check data/worlds\n"
    "  gelert data check data/worlds --against benches/test.json --against benches/more.jsonl\n"
    "  gelert data check data/worlds --judge my-guard/ --judged 100"
)
@_folder
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Evaluation data that must not be in the runs; may be given more than once.",
)
@click.option("--judge", metavar="GUARD", help="Also ask this guard and report how often it says what the world says.")
@click.option("--judged", type=click.IntRange(min=1), default=200, show_default=True, help="Runs that are judged.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(folder: Path, against: tuple[Path, ...], judge: str | None, judged: int, as_json: bool) -> None:
    """Refuse runs of DIR that are malformed, wrongly labelled, nearly the same as others or in evaluation data.

    DIR/refused.jsonl names each with its reason; whoever reads DIR leaves them out. The judge refuses none.
    """
    from gelert.cli.guards import open_guard
    from gelert.forge import quality
    from gelert.forge.synthesise_disk import config_of, families_of

    found = quality.check(folder, families_of(folder), against, _counter(cast("int", config_of(folder)["n"])))
    told: dict[str, object] = {
        "runs": found.runs,
        "pass_rate": round(found.pass_rate, 4),
        "refused": found.layers,
        "near_duplicate_bound": quality.BOUND,
        "against": [str(path) for path in against],
    }
    if judge:
        said = quality.agreement(folder, open_guard(judge), judged)
        told["judge"] = {"guard": said.judge, "runs": said.runs, "agreement": str(said.accuracy)}
    if as_json:
        print(json.dumps({**told, "faults": [asdict(fault) for fault in found.faults]}))
    else:
        for fault in found.faults:
            print(f"refused  run {fault.number} ({fault.layer}): {fault.reason}", file=sys.stderr)
        _tell(told)


@command.command(
    epilog="\b\nExamples:\n  gelert data card data/worlds\n  gelert data card data/worlds --plot --floor-runs 3000"
)
@_folder
@click.option("--plot", is_flag=True, help="Also draw DIR/card.png (needs the extra report).")
@click.option("--floor-runs", default=1500, show_default=True, help="Runs on which the floors are fitted.")
@click.option("--seed", default=0, show_default=True, help="Of the draw, the folds and the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
def card(folder: Path, plot: bool, floor_runs: int, seed: int, as_json: bool) -> None:
    """Describe DIR in DIR/card.md and DIR/card.json: what it holds, and what trivial rules reach on it."""
    from gelert.forge import card as cards
    from gelert.forge.synthesise_disk import config_of

    config = config_of(folder)
    found = cards.data_card(folder, floor_runs, seed)
    text = cards.markdown(found, config)
    row = json.dumps({"config": config, **found.row()}, indent=1)
    (folder / "card.md").write_text(text, encoding="utf-8")
    (folder / "card.json").write_text(row + "\n", encoding="utf-8")
    if plot:
        from gelert.forge.card_plot import plot as draw

        draw(found, folder / "card.png")
    print(row if as_json else text, end="")


def _counter(total: int) -> Callable[[int], None]:
    """A progress bar as a function of the number of runs read; it does nothing where nobody looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda _: None
    bar = Progress(console=console, transient=True)
    row = bar.add_task("checking runs", total=total)
    bar.start()

    def show(done: int) -> None:
        bar.update(row, completed=done)
        if done >= total:
            bar.stop()

    return show


@contextmanager
def _backend(address: str) -> "Generator[Backend | None]":
    """The model that rewrites, closed afterwards; None without an address."""
    from gelert.backends.http import Endpoint, HttpBackend

    url, _, model = address.partition("#")
    if not address:
        yield None
        return
    with HttpBackend(Endpoint(url, model)) as backend:
        yield backend


def _watched(made: Iterable[Made], total: int, what: str) -> Iterator[Made]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(made, what, total=total, console=console, transient=True, disable=not console.is_terminal)


def _tell(found: dict[str, object]) -> None:
    """Counts, a line each; what is itself a table goes below its name."""
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, count in value.items():
                told = ", ".join(f"{leaf} {n}" for leaf, n in count.items()) if isinstance(count, dict) else count
                print(f"  {key}  {told}")
        else:
            print(f"{name}: {', '.join(map(str, value)) or 'none' if isinstance(value, list) else value}")


for measured in (demonstrate, influence, purify):
    command.add_command(measured)
