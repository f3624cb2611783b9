"""``gelert worlds``: simulated tool worlds for agents; list, show and prove them."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from gelert.cli.worlds_live import bench, play, replay, serve
from gelert.core.taxonomy import Axis, builtin, selectable

if TYPE_CHECKING:
    from gelert.worlds.families import Family
    from gelert.worlds.prove import Coverage
    from gelert.worlds.tasks import Task

EPILOG = """\b
Examples:
  gelert worlds list
  gelert worlds show mail
  gelert worlds check --all
  gelert worlds check my-world.json
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Simulated worlds of tools: what an agent did is read off their state, harm and success alike."""


@command.command("list", epilog="\b\nExamples:\n  gelert worlds list\n  gelert worlds list mail --tasks")
@click.argument("worlds", nargs=-1, metavar="[WORLD|FILE]...")
@click.option("--tasks", "each", is_flag=True, help="Every task by its name, a line each.")
@click.option("--json", "as_json", is_flag=True)
def list_(worlds: tuple[str, ...], each: bool, as_json: bool) -> None:
    """What there is: worlds with their domain, tools, families and tasks."""
    from gelert.worlds.catalogue import catalogue

    found = catalogue(worlds)
    if each:
        for task in _tasks(found):
            print(json.dumps({"task": task.name, "scenario": task.scenario}) if as_json else task.name)
        return
    for world in {family.world.name: family.world for family in found.values()}.values():
        own = {name: family for name, family in found.items() if family.world is world}
        offered = sum(not tool.hidden for tool in world.tools.values())
        row = {
            "world": world.name,
            "domain": world.domain,
            "setting": world.setting.value,
            "tools": offered,
            "families": len(own),
            "tasks": len(list(_tasks(own))),
        }
        print(json.dumps(row) if as_json else "  ".join(f"{name} {value}" for name, value in row.items()))


@command.command(epilog="\b\nExamples:\n  gelert worlds show mail\n  gelert worlds show mail/answer_mail/0/clean")
@click.argument("what", metavar="WORLD|FILE|TASK")
def show(what: str) -> None:
    """A world's tools and families, or how a task begins: request, tools, what is planted."""
    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.tasks import begin, task

    if what.count("/") in (3, 5) and not what.endswith(".json"):
        beginning = begin(task(catalogue([what.split("/", maxsplit=1)[0]]), what))
        print(beginning.task.family.policy, beginning.goal, sep="\n\n")
        for spec in beginning.tools:
            print(f"\n{spec.name}: {spec.description}\n  {spec.parameters}")
        if beginning.payload:
            print(f"\nplanted ({beginning.task.risk.entry if beginning.task.risk else ''}): {beginning.payload}")
        return
    found = catalogue([what])
    world = next(iter(found.values())).world
    print(f"{world.name} ({world.domain}, {world.setting.value}): {world.about}\n")
    for tool in world.tools.values():
        print(f"  {tool.name:24} {tool.kind:7} {tool.about}")
    for family in found.values():
        print(f"\n  {family.name}: {family.about} ({len(family.bindings)} bindings)")
        for risk in family.risks.values():
            leaves = ", ".join(str(risk.diagnosis.on(axis)) for axis in Axis)
            print(f"    {risk.name} ({risk.scenario}, enters by {risk.entry}): {leaves}; {', '.join(risk.defenders)}")


@command.command(epilog="\b\nExamples:\n  gelert worlds check --all\n  gelert worlds check mail my-world.json --json")
@click.argument("worlds", nargs=-1, metavar="[WORLD|FILE]...")
@click.option("--all", "every", is_flag=True, help="The whole catalogue.")
@click.option("--json", "as_json", is_flag=True)
def check(worlds: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Prove every task by scripted agents, and say which leaves of the taxonomy they cover.

    The exit code is 1 when a task is not proven.
    """
    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.prove import Coverage, prove

    if every == bool(worlds):
        raise click.UsageError("expected worlds or --all")
    found = catalogue(worlds)
    coverage, faults = Coverage(), dict[str, list[str]]()
    for task in _watched(list(_tasks(found))):
        coverage.add(task)
        if wrong := prove(task):
            faults[task.name] = wrong
    every_world = {family.world.name: family.world for family in found.values()}
    totals = {
        "domains": len({world.domain for world in every_world.values()}),
        "worlds": len(every_world),
        "families": len(found),
        "tools": sum(not tool.hidden for world in every_world.values() for tool in world.tools.values()),
        "tasks": coverage.scenarios.total(),
        "scenarios": dict(coverage.scenarios),
        "unproven": len(faults),
    }
    if as_json:
        leaves = {axis.value: dict(coverage.leaves[axis]) for axis in Axis}
        print(json.dumps({**totals, "leaves": leaves, "empty": coverage.empty(), "faults": faults}))
    else:
        _tell(coverage, faults)
        print(", ".join(f"{value} {name}" for name, value in totals.items() if isinstance(value, int)))
    sys.exit(1 if faults else 0)


@command.command(epilog="\b\nExample:\n  gelert worlds prompt --domain 'a bicycle rental' | your-model > rental.json")
@click.option("--domain", default="a small place of your choice", show_default=True, help="What the world is about.")
def prompt(domain: str) -> None:
    """Print what a person or a language model must know to write a world; check what comes with check."""
    from importlib import resources

    text = (resources.files("gelert.worlds") / "writing.md").read_text("utf-8")
    print(text.replace("{domain}", domain), end="")


def _tell(coverage: "Coverage", faults: dict[str, list[str]]) -> None:
    for axis in Axis:
        print(f"{axis.value}:")
        for leaf in selectable(builtin().on(axis)):
            print(f"  {leaf.slug:56} {coverage.leaves[axis][leaf.slug]:6}")
    print("scenarios: " + ", ".join(f"{name} {count}" for name, count in coverage.scenarios.items()))
    for name, wrong in list(faults.items())[:50]:
        print(f"not proven: {name}: {'; '.join(wrong)}", file=sys.stderr)
    if len(faults) > 50:
        print(f"not proven: and {len(faults) - 50} more", file=sys.stderr)


def _tasks(families: dict[str, "Family"]) -> Iterator["Task"]:
    from gelert.worlds.tasks import tasks

    for family in families.values():
        yield from tasks(family)


def _watched(tasks: Sequence["Task"]) -> Iterator["Task"]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(tasks, "proving", console=console, transient=True, disable=not console.is_terminal)


for live in (play, replay, serve, bench):
    command.add_command(live)
