"""``gelert taxonomy``: show the leaves, check a file of own ones."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from gelert.core.taxonomy import Axis, Leaf, Taxonomy, selectable
from gelert.core.trajectory import Setting


@click.group()
def command() -> None:
    """Show and check the three axes of a diagnosis."""


@command.command()
@click.option("--axis", type=click.Choice([a.value for a in Axis]), help="Only this axis.")
@click.option("--setting", type=click.Choice([s.value for s in Setting]), help="Only leaves that apply there.")
@click.option("--extra", type=click.Path(exists=True, path_type=Path), multiple=True, help="A TOML file of own leaves.")
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object a leaf.")
def show(axis: str | None, setting: str | None, extra: tuple[Path, ...], as_lines: bool) -> None:
    """List the leaves, one line each."""
    taxonomy = Taxonomy.load(*extra)
    for each in Axis:
        if axis and each.value != axis:
            continue
        leaves = selectable(taxonomy.on(each, Setting(setting) if setting else None))
        if not as_lines:
            click.echo(f"\n{each.value} ({len(leaves)} leaves)")
        for leaf in leaves:
            click.echo(json.dumps(asdict(leaf)) if as_lines else _line(leaf))


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check TOML files of own leaves against the built-in ones."""
    taxonomy = Taxonomy.load(*files)
    own = len(taxonomy.leaves) - len(Taxonomy.load().leaves)
    click.echo(f"{own} own leaves; no spelling names two leaves of one axis")


def _line(leaf: Leaf) -> str:
    mark = "" if leaf.setting is Setting.GENERAL else f" [{leaf.setting.value}]"
    return f"  {leaf.slug:56} {leaf.meaning}{mark}"
