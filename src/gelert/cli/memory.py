"""``gelert memory``: sweep adapters over ranks and lengths, and fit the law to what they did."""

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from gelert.cli.spreading import ray_option
from gelert.core.errors import InputError, missing_extra

if TYPE_CHECKING:
    from gelert.memory.cells import Progress, Record
    from gelert.memory.law import Fit, Frontier, Point
    from gelert.memory.write import Proof

EPILOG = """\b
Examples:
  gelert memory sweep --ranks 1,2,4,8 --lengths 32,64,128 --out sweep/
  gelert memory law sweep/ --plot figures/
  gelert memory law tests/data/qwen_law.csv
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Text in a low-rank adapter, word for word: how much fits, and the proof that it is there."""


class Numbers(click.ParamType[list[int]]):
    """Whole numbers, with commas between."""

    name = "N,N,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The numbers of the text ``value``."""
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"expected whole numbers with commas between, got {value!r}", param, ctx)


NUMBERS = Numbers()


@command.command(
    epilog="""\b
Examples:
  gelert memory sweep --ranks 1,2,3,4,6,8,12 --lengths 32,64,96,128,192,256,384 --until 0.5 --out sweep/
  gelert memory sweep --corpus phone-book --lengths 10,20,40 --methods sft,memft-ot --seeds 0,1,2 --ranks 1,2 --out pb/

The same command goes on where an interrupted sweep stopped.
"""
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the sweep.")
@click.option("--ranks", type=NUMBERS, required=True, help="Ranks of the adapters.")
@click.option("--lengths", type=NUMBERS, required=True, help="Tokens of a text, or entries of a phone book.")
@click.option("--methods", default="sft", show_default=True, help="Of sft, memft-ot, memft-sw and cramming.")
@click.option("--seeds", type=NUMBERS, default="0", show_default=True, help="Of the adapters.")
@click.option(
    "--corpus", type=click.Choice(["random", "phone-book", "text"]), default="random", show_default=True, help="What."
)
@click.option("--text", type=click.Path(exists=True, dir_okay=False), default=None, help="File of the corpus 'text'.")
@click.option("--noise", default=0.0, show_default=True, help="Share of random tokens put into a text.")
@click.option("--text-seed", default=0, show_default=True, help="Of random tokens, names and numbers.")
@click.option("--model", default="smollm2-135m", show_default=True, help="Base model.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--block", default=20, show_default=True, help="Beside which block, counted from 0.")
@click.option(
    "--placement",
    type=click.Choice(["branch", "linear"]),
    default="branch",
    show_default=True,
    help="One branch beside the block's feed-forward part, or LoRA on all linear maps from the block up.",
)
@click.option(
    "--numeric",
    type=click.Choice(["fp32", "paper"]),
    default="fp32",
    show_default=True,
    help="Factors in float32, or all in bfloat16 with dropout 0.1.",
)
@click.option("--steps", default=300, show_default=True, help="Of each cell.")
@click.option("--learning-rate", default=1e-2, show_default=True, help="Falls linearly to zero.")
@click.option("--batch", default=10, show_default=True, help="Phone book entries a step.")
@click.option("--until", type=click.FloatRange(0, 1), help="Leave once all tokens are recalled with more than this.")
@click.option("--group-tokens", default=1024, show_default=True, help="Tokens a step of cells trained together.")
@click.option("--workers", default=1, show_default=True, help="Processes.")
@ray_option
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines.")
def sweep(out: Path, workers: int, ray: str, as_json: bool, **asked: object) -> None:
    """Train one adapter for each rank, length, method and seed, many at a time, and certify each."""
    _require()
    from gelert.memory.cells import Setup, Sweep, grid, read

    axes = {name: asked.pop(name) for name in ("ranks", "lengths", "methods", "seeds")}
    setup = Setup(**{**asked, "text": asked["text"] or ""})  # pyright: ignore[reportArgumentType]  # click has checked them
    if setup.corpus == "text" and not setup.text:
        raise InputError("expected --text FILE with --corpus text, got none")
    cells = grid(
        cast("list[int]", axes["ranks"]),
        cast("list[int]", axes["lengths"]),
        str(axes["methods"]).split(","),
        cast("list[int]", axes["seeds"]),
    )
    with _progress() as progress:
        Sweep(out, setup, cells).run(progress, workers=workers, ray=ray)
    found = [record for record in read(out) if record.cell in set(cells)]
    if as_json:
        for record in found:
            print(json.dumps(asdict(record)))
    else:
        print(table(found))


@command.command(
    epilog="""\b
Example:
  gelert memory corpus phone-book --count 100 > facts.jsonl
"""
)
@click.argument("kind", type=click.Choice(["phone-book", "linear-rule"]))
@click.option("--count", default=100, show_default=True, help="Facts.")
@click.option("--seed", default=0, show_default=True)
@click.option("--held-out", is_flag=True, help="Of the linear rule, as many pairs that the others do not hold.")
def corpus(kind: str, count: int, seed: int, held_out: bool) -> None:
    """Print made-up facts as JSON lines with query and target: people's numbers, or f(x, y) = 3x + 5y + 7."""
    _require()
    from gelert.memory.corpora import linear_rule, phone_book

    facts = phone_book(count, seed) if kind == "phone-book" else linear_rule(count, seed)[held_out]
    for fact in facts:
        print(json.dumps(asdict(fact)))


@command.command(
    epilog="""\b
Examples:
  gelert memory write facts.jsonl --out adapter/
  gelert memory write page.txt --out adapter/ --minutes 20
"""
)
@click.argument("facts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the adapter.")
@click.option("--model", default="smollm2-135m", show_default=True, help="Base model.")
@click.option("--rank", default=4, show_default=True, help="To begin with; it doubles until all is recalled.")
@click.option("--largest-rank", default=64, show_default=True, help="Where it ends.")
@click.option("--blocks", default=6, show_default=True, help="How many of the last blocks carry the adapter.")
@click.option("--method", type=click.Choice(["memft-ot", "sft"]), default="memft-ot", show_default=True)
@click.option("--until", default=0.6, show_default=True, help="Every token's probability must be above this.")
@click.option("--minutes", default=60.0, show_default=True, help="Stop after this.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def write(facts: Path, out: Path, model: str, as_json: bool, **asked: object) -> None:
    """Write FACTS (a text, or JSON lines with query and target) into an adapter and prove that they are there.

    The adapter is in PEFT's form. The exit code is 1 when something is not recalled.
    """
    _require()
    from gelert.lm.model import load
    from gelert.memory.corpora import read_facts
    from gelert.memory.write import Recipe
    from gelert.memory.write import write as train

    read = read_facts(facts)
    with _progress() as progress:
        proof = train(load(model), read, Recipe(**asked), out, progress)  # pyright: ignore[reportArgumentType]
    _tell(proof, as_json=as_json)


@command.command(
    epilog="""\b
Example:
  gelert memory check facts.jsonl --adapter adapter/ --decode 20
"""
)
@click.argument("facts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--adapter", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--model", default="smollm2-135m", show_default=True, help="Base model.")
@click.option("--decode", default=0, show_default=True, help="Of how many facts to decode the answer as well.")
@click.option("--json", "as_json", is_flag=True)
def check(facts: Path, adapter: Path, model: str, decode: int, as_json: bool) -> None:
    """Which of FACTS the adapter recalls word for word, by one pass. The exit code is 1 when one is not recalled."""
    _require()
    from gelert.lm.model import load
    from gelert.memory.corpora import read_facts
    from gelert.memory.write import check as certified

    _tell(certified(load(model), read_facts(facts), adapter, decode=decode), as_json=as_json)


def _tell(proof: "Proof", *, as_json: bool) -> None:
    """Print what was proved; exit 1 when something is missing."""
    if as_json:
        print(json.dumps(asdict(proof)))
    else:
        print(f"recalled {proof.recalled} of {proof.facts} texts, {proof.tokens} tokens")
        print(f"p > 1/2 for {proof.confident} tokens, the least {proof.least:.3f}")
        print(f"other text: {proof.other_before:.3f} nats a token before, {proof.other_after:.3f} with the adapter")
        if proof.decoded:
            print(f"decoded {proof.decoded}: {proof.disagreements} unlike the certificate")
        for query in proof.missing:
            print(f"not recalled: {query}")
    if not proof.whole or proof.disagreements:
        sys.exit(1)


@command.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--cut", default=0.69, show_default=True, help="Leave out cells with a final loss up to this, nats.")
@click.option("--method", default="sft", show_default=True, help="Of a sweep's cells, which to fit.")
@click.option("--resamples", default=500, show_default=True, help="Of the bootstrap.")
@click.option("--plot", type=click.Path(file_okay=False, path_type=Path), help="Folder for figures and their data.")
@click.option("--json", "as_json", is_flag=True)
def law(source: Path, cut: float, method: str, resamples: int, plot: Path | None, as_json: bool) -> None:
    """Fit the Parametric Memory Law to a sweep's folder, or to a CSV with rank, length and gain.

    Every estimator is fitted; the one that predicts left-out ranks and lengths best comes first. A sweep is fitted a
    second time without what an adapter gains by giving all tokens equal probability.
    """
    _require()
    from gelert.memory import law as laws

    if source.is_file():
        views = {"as measured": laws.unsaturated(laws.read_csv(source), cut)}
        fronts: list[laws.Frontier] = []
    else:
        views, fronts = _of_sweep(source, cut, method)
    fits = _fits(views, resamples)
    if plot:
        from gelert.memory import curves

        curves.law(plot, next(iter(views.values())), next(iter(fits.values()))[0])
    if as_json:
        named = {name: [asdict(one) for one in own] for name, own in fits.items()}
        print(json.dumps({"fits": named, "frontier": [asdict(one) for one in fronts]}))
        return
    for name, own in fits.items():
        print(f"{name}: {own[0].points} cells\n" + "\n".join(_line(one) for one in own) + "\n")
    for one in fronts:
        print(f"rank {one.rank}: {one.length} tokens exactly, {one.bits_a_parameter:.2f} bits a parameter")


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--plot", type=click.Path(file_okay=False, path_type=Path), help="Folder for figures and their data.")
@click.option("--json", "as_json", is_flag=True)
def recall(folder: Path, plot: Path | None, as_json: bool) -> None:
    """What the certificates of the sweep in FOLDER say: the p > 1/2 test, and where texts break.

    The exit code is 1 when a token with p > 1/2 is not the most probable one.
    """
    _require()
    from gelert.memory.cells import read
    from gelert.memory.recall import phase

    found = read(folder)
    if not found:
        raise InputError(f"expected finished cells, got none ({folder})")
    seen = phase(folder, found)
    if plot:
        from gelert.memory import curves

        curves.diagram(plot, found)
        curves.along(plot, folder, found)
        curves.by_rank(plot, found)
    if as_json:
        print(json.dumps({**asdict(seen), "cells": len(found)}))
    else:
        print(table(found))
        print(f"{seen.lucky} with p up to 1/2 are the most probable one all the same; {seen.wrong} are wrong")
        print(
            f"{seen.failing} texts fail, {seen.early} of them before their first token with p up to 1/2; "
            f"rank correlation of the two {seen.rank_correlation:.3f}"
        )
        print("cascades start at " + ", ".join(f"{at} ({count})" for at, count in seen.starts))
    if seen.violations or seen.early:
        sys.exit(1)


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def stubborn(folder: Path, as_json: bool) -> None:
    """How well the frozen model's own numbers foretell which tokens of the sweep in FOLDER resist."""
    _require()
    from gelert.memory.cells import Bench, read, setup_of
    from gelert.memory.recall import stubbornness
    from gelert.memory.stubborn import judge, predictors

    found, setup = read(folder), setup_of(folder)
    if not found or setup.corpus == "phone-book":
        raise InputError(f"expected a sweep of a text with finished cells, got none ({folder})")
    bench = Bench(setup)
    longest = max(record.cell.length for record in found)
    (text,) = bench.examples(longest)
    guesses = judge(predictors(bench.model, text), stubbornness(folder, found, longest))
    if as_json:
        print(json.dumps([asdict(guess) for guess in guesses]))
        return
    print(f"{guesses[0].failing} stubborn tokens of {guesses[0].tokens}; AUC of what was known before training:")
    for guess in guesses:
        print(f"  {guess.name:12} {guess.auc:.3f} [{guess.low:.3f}, {guess.high:.3f}]")


@command.command()
@click.argument("text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--sweep", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True)
def plan(text: Path, folder: Path, as_json: bool) -> None:
    """What rank, steps and time it takes to recall TEXT (a text, or JSON lines of facts), by the law of a sweep."""
    _require()
    from gelert.lm.model import load
    from gelert.memory.cells import read, setup_of
    from gelert.memory.corpora import example, read_facts
    from gelert.memory.plan import plan as planned

    setup = setup_of(folder)
    model = load(setup.model)
    found = planned(model, [example(model, fact) for fact in read_facts(text)], setup, read(folder))
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(f"{found.tokens} tokens, {found.loss:.2f} nats each that the model does not know")
    beyond = "; beyond the sweep, so with caution" if found.extrapolated else ""
    print(f"rank {found.rank} [{found.low}, {found.high}] beside block {setup.block} ({found.estimator} law{beyond})")
    print(f"  {found.parameters} numbers; on the last blocks' linear maps rank {found.linear_rank} has as many")
    print(f"  {found.steps} steps of all tokens, {found.seconds / 60:.1f} minutes at the sweep's speed")


def _fits(views: "dict[str, list[Point]]", resamples: int) -> "dict[str, list[Fit]]":
    """All estimators on each view; the first must fit, another says why it does not."""
    from gelert.memory.law import compare

    found: dict[str, list[Fit]] = {}
    for name, points in views.items():
        try:
            found[name] = compare(points, resamples=resamples)
        except InputError as fault:
            if not found:
                raise
            print(f"{name}: {fault}", file=sys.stderr)
    return found


def _of_sweep(folder: Path, cut: float, method: str) -> "tuple[dict[str, list[Point]], list[Frontier]]":
    import math

    from gelert.lm.model import load
    from gelert.memory import law as laws
    from gelert.memory.cells import read, setup_of

    found = [record for record in read(folder) if record.cell.method == method]
    if not found:
        raise InputError(f"expected finished cells of method {method!r}, got none ({folder})")
    setup = setup_of(folder)
    model = load(setup.model)
    uniform = math.log(model.vocab)
    points = laws.unsaturated([record.point for record in found], cut)
    views = {"as measured": points, "memory only": laws.memory_only(points, uniform)}
    exact = [(record.point, record.exact == 1.0) for record in found]
    return views, laws.frontier(exact, model.width, uniform) if setup.placement == "branch" else []


def _line(fit: "Fit") -> str:
    numbers = ", ".join(
        f"{name} {value:.3f} [{fit.intervals[name][0]:.3f}, {fit.intervals[name][1]:.3f}]"
        if name in fit.intervals
        else f"{name} {value:.3f}"
        for name, value in fit.parameters.items()
    )
    return (
        f"  {fit.estimator:14} R2 {fit.r_squared:.4f}  error {fit.mape:.1f} % (worst {fit.worst:.0f})  "
        f"left out {fit.held_out:.1f} % (worst {fit.held_out_worst:.0f})  {numbers}"
    )


def table(found: "Sequence[Record]") -> str:
    """Final loss by length and rank, one table a method; ``*`` where all is recalled, means over seeds."""
    lines: list[str] = []
    for method in dict.fromkeys(record.cell.method for record in found):
        own = [record for record in found if record.cell.method == method]
        ranks = sorted({record.cell.rank for record in own})
        lines += [
            f"{method}: final loss, nats a token; * all recalled",
            "| length | " + " | ".join(f"r={r}" for r in ranks) + " |",
        ]
        lines.append("|---" * (len(ranks) + 1) + "|")
        for length in sorted({record.cell.length for record in own}):
            cells = [[r for r in own if r.cell.length == length and r.cell.rank == rank] for rank in ranks]
            marks = [
                f"{sum(r.final for r in cell) / len(cell):.2f}{'*' * all(r.exact == 1 for r in cell)}" if cell else "-"
                for cell in cells
            ]
            lines.append(f"| {length} | " + " | ".join(marks) + " |")
        lines.append("")
    wrong, sure = sum(record.violations for record in found), sum(record.confident for record in found)
    lines.append(f"{wrong} of {sure} tokens with p > 1/2 are not the most probable one")
    return "\n".join(lines)


@contextmanager
def _progress() -> "Generator[Progress]":
    """A bar with the time left, on a terminal; elsewhere a line now and then."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        told = time.monotonic()

        def report(done: int, total: int, what: str) -> None:
            nonlocal told
            bar.update(task, completed=done, total=total, description=what)
            if not console.is_terminal and time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"{100 * done / total:.0f} %  {what}", file=console.file, flush=True)

        yield report


def _require() -> None:
    if not all(find_spec(name) for name in ("torch", "scipy", "transformers")):
        raise missing_extra("gelert memory", "train")
