"""``gelert data demonstrate``: runs for the safety fine-tuning of agents, filtered by a guard or by the world."""

import json
import os
from pathlib import Path

import click

from gelert.cli.guards import guard_option, open_guard
from gelert.cli.progress import watched


@click.command(
    epilog="\b\nExamples:\n  gelert data demonstrate --count 1000 --keep truth --out safety.jsonl\n"
    "  gelert data demonstrate --count 1000 --keep guard --guard my-guard/ --out filtered.jsonl\n"
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
    from gelert.forge.agent_sft import Draw, Keep, agreement, candidates, conversation, kept
    from gelert.worlds.catalogue import catalogue

    chooses = Keep(keep)
    guard = open_guard(guard_name) if chooses is Keep.GUARD else None
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    judged, written = [], 0
    with watched("making runs", count + round(count * plain)) as done, partial.open("w", encoding="utf-8") as stream:
        draw = Draw(count, plain, flawed, seed=seed)
        for number, one in enumerate(candidates(catalogue(worlds), draw), start=1):
            stays = kept(one, chooses, guard)
            judged.append((one, stays))
            if stays:
                stream.write(json.dumps(conversation(one.run), ensure_ascii=False) + "\n")
                written += 1
            done(number)
    partial.replace(out)
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
