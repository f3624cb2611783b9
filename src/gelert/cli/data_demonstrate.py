"""``gelert data demonstrate``: runs for the safety fine-tuning of agents, filtered by a guard or by the world."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.backends.base import in_order
from gelert.cli.guards import at_once_option, guard_option, open_guard
from gelert.cli.progress import watched
from gelert.cli.spreading import spread_options
from gelert.core.errors import InputError

if TYPE_CHECKING:
    from gelert.forge.agent_sft import Candidate, Keep
    from gelert.spread.workers import Workers


@click.command(
    epilog="\b\nExamples:\n  gelert data demonstrate --count 1000 --keep truth --out safety.jsonl\n"
    "  gelert data demonstrate --count 1000 --keep guard --guard my-guard/ --workers 2 --out filtered.jsonl\n"
    "  gelert data demonstrate --count 300 --keep guard --flawed 0.5 --plain 0 --out judged.jsonl --json"
)
@click.option("--count", type=click.IntRange(min=1), required=True, help="Candidates with a risk.")
@click.option(
    "--keep",
    type=click.Choice(["all", "guard", "truth"]),
    default="guard",
    show_default=True,
    help="What a guard finds safe, what the world knows to be good, or all.",
)
@guard_option
@at_once_option
@spread_options
@click.option("--plain", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Plain runs for each.")
@click.option(
    "--flawed",
    type=click.FloatRange(0, 1),
    default=0.125,
    show_default=True,
    help="Share of the candidates in which the harm is done.",
)
@click.option("--world", "worlds", multiple=True, metavar="WORLD|FILE", help="Only this world. Default: all.")
@click.option("--seed", default=0, show_default=True, help="Of every draw.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON Lines to write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demonstrate(
    count: int,
    keep: str,
    guard_name: str | None,
    at_once: int | None,
    workers: int,
    ray: str,
    plain: float,
    flawed: float,
    worlds: tuple[str, ...],
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Write runs that an agent may learn from, as chats with tools: risks handled well, and plain tasks beside them.

    They are of tasks that `gelert eval-agent --held` does not use. Where a guard chooses, its choice is compared with
    what the world knows.
    """
    from gelert.forge.agent_sft import Draw, Keep, agreement, candidates, conversation
    from gelert.spread.workers import Workers
    from gelert.worlds.catalogue import catalogue

    choose = _choosing(Keep(keep), guard_name, at_once, Workers(workers, ray))
    unfinished = out.with_name(f"{out.name}.{os.getpid()}.partial")
    judged, written = [], 0
    with watched("making runs", count + round(count * plain)) as done, unfinished.open("w", encoding="utf-8") as stream:
        draw = Draw(count, plain, flawed, seed=seed)
        jobs, made = tee(candidates(catalogue(worlds), draw))
        for number, (one, stays) in enumerate(zip(made, choose(jobs), strict=True), start=1):
            judged.append((one, stays))
            if stays:
                stream.write(json.dumps(conversation(one.run), ensure_ascii=False) + "\n")
                written += 1
            done(number)
    unfinished.replace(out)
    found = agreement(judged)
    told = {
        "runs": len(judged),
        "written": written,
        "with_a_risk": found.runs,
        "good": found.good,
        "kept": found.kept,
        "precision": round(found.precision, 4),
        "recall": round(found.recall, 4),
    }
    print(json.dumps(told) if as_json else "\n".join(f"{name:14} {value}" for name, value in told.items()))


def _choosing(
    keep: "Keep", guard_name: str | None, at_once: int | None, workers: "Workers"
) -> "Callable[[Iterable[Candidate]], Iterator[bool]]":
    """Says of each candidate, in order, whether it is kept; of several at once where an endpoint is asked."""
    from gelert.cli.judging import at_hand
    from gelert.forge.agent_sft import Keep, kept

    if keep is not Keep.GUARD:
        if guard_name is not None or at_once is not None:
            raise InputError(f"expected --keep guard with --guard or --at-once, got --keep {keep}")
        return partial(workers.in_order, partial(_making, keep, None))
    if not workers.alone:
        return partial(workers.in_order, partial(_making, keep, at_hand(guard_name, at_once)))
    guard = open_guard(guard_name, at_once)
    return lambda found: in_order(lambda one: kept(one, keep, guard), found, guard.concurrency)


def _making(keep: "Keep", guard_name: str | None) -> "Callable[[Candidate], bool]":
    """Whether one is kept, in the process that opens the guard."""
    from gelert.forge.agent_sft import Keep, kept

    guard = open_guard(guard_name) if keep is Keep.GUARD else None
    return lambda one: kept(one, keep, guard)
