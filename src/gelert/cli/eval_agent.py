"""``gelert eval-agent``: what agents get done in the worlds, and what they do that they should not."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.cli.agents import check_form, form_option, held_weights, on_this_machine, open_agent
from gelert.cli.guards import card_digest, guard_option, open_guard
from gelert.cli.progress import watched

if TYPE_CHECKING:
    from gelert.forge.agent_eval import Figure, Played

EPILOG = """\b
Examples:
  gelert eval-agent oracle victim refuser --out runs/
  gelert eval-agent http://127.0.0.1:8000/v1#Qwen3-4B --held worlds --count 50 --out runs/ --plot
  gelert eval-agent my-agent/model --held parameters --at-once 64 --out runs/
  gelert eval-agent victim --guarded --count 20 --out runs/ --json
"""


@click.command(epilog=EPILOG)
@click.argument("agents", nargs=-1, required=True, metavar="AGENT...")
@click.option(
    "--held",
    type=click.Choice(["worlds", "attacks", "wordings", "parameters"]),
    help="Tasks with new worlds, attacks, wordings or parameters. Default: those that agents may learn from.",
)
@click.option("--count", type=click.IntRange(1, 5000), default=50, show_default=True, help="Tasks of each scenario.")
@click.option("--world", "worlds", multiple=True, help="A world, by name or file; may be given more than once.")
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@form_option
@click.option(
    "--at-once",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Tasks that a model of this machine plays at once, unguarded.",
)
@click.option("--guarded", is_flag=True, help="Also play with a guard in front of every call and answer.")
@guard_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Keep episodes here and go on."
)
@click.option("--plot", is_flag=True, help="Also draw OUT/agents.png (needs the extra report).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an agent.")
def command(
    agents: tuple[str, ...],
    held: str | None,
    count: int,
    worlds: tuple[str, ...],
    seed: int,
    form: str,
    at_once: int,
    guarded: bool,
    guard_name: str | None,
    out: Path,
    plot: bool,
    as_json: bool,
) -> None:
    """Play tasks with each AGENT (oracle, victim, refuser, a model of this machine, URL#MODEL) and print its figures.

    Utility, attack success, harm and over-refusal, with 95 % intervals over families of tasks. All is read off the
    state of the world; no model judges. An interrupted run goes on; one with other weights, another form or another
    guard begins anew.
    """
    from gelert.forge.agent_eval import evaluate
    from gelert.forge.agent_tasks import Held, chosen, told
    from gelert.forge.agent_together import evaluate as evaluate_together
    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.tasks import tasks
    from gelert.worlds.toolcalls import Form

    every = told([one for family in catalogue(worlds).values() for one in tasks(family)], Form(form))
    played = chosen(every, count, held=Held(held) if held else None, seed=seed)
    guard = open_guard(guard_name) if guarded else None
    seen: dict[str, list[Figure]] = {}
    for name in agents:
        together = at_once > 1 and not guarded and on_this_machine(name)
        choose = None if together else open_agent(name, form)
        learnt = (form, *held_weights(name))
        for inside in (None, guard) if guard else (None,):
            label = f"{name}, guarded by {inside.name}" if inside else name
            path = _records(label, (*learnt, card_digest(guard_name)) if inside else learnt, out)
            if choose:
                episodes = evaluate(choose, played, label, path, inside)
            else:
                check_form(Path(name), form)
                episodes = evaluate_together(name, Form(form), played, label, path, at_once=at_once)
            seen[label] = _figures(episodes, label, len(played))
            print(json.dumps(_row(label, seen[label])) if as_json else _table(label, seen[label]))
    if plot:
        from gelert.forge.agent_plot import plot as draw

        draw(seen, out / "agents.png")


def _records(label: str, what: Sequence[str], out: Path) -> Path:
    """The file of an agent's episodes, another one for each ``what``."""
    from gelert.core.records import digest

    out.mkdir(parents=True, exist_ok=True)
    return out / f"{digest([label, *what])[:16]}.jsonl"


def _figures(episodes: "Iterable[Played]", label: str, count: int) -> "list[Figure]":
    from gelert.forge.agent_eval import figures

    found: list[Played] = []
    with watched(label, count) as done:
        for number, one in enumerate(episodes, start=1):
            found.append(one)
            done(number)
    return figures(found)


def _row(label: str, found: "Sequence[Figure]") -> dict[str, object]:
    return {"agent": label, "figures": {one.name: {"episodes": one.episodes, **asdict(one.interval)} for one in found}}


def _table(label: str, found: "Sequence[Figure]") -> str:
    return "\n".join([label, *(f"  {one.name:18} {one.interval}  {one.episodes} episodes" for one in found)])
