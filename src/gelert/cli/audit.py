"""``gelert audit``: the decisions that the service wrote down."""

import sys
from pathlib import Path

import click

EXAMPLES = """\b
Examples:
  gelert audit verify
  gelert audit export audit.db > decisions.jsonl
  gelert audit prune audit.db --keep-days 90

\b
verify shows that nothing was changed, taken out, put in, moved or cut off by anybody without the key. It cannot show
what whoever has the key wrote anew, nor that the whole file is not an older copy: note the head elsewhere and compare.
"""

FILE = click.Path(dir_okay=False, path_type=Path)
key_option = click.option("--key", type=FILE, help="The signing key. Default: beside FILE.")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Check and show the decisions that the service wrote down."""


@command.command()
@click.argument("path", type=FILE, required=False, metavar="[FILE]")
@key_option
def verify(path: Path | None, key: Path | None) -> None:
    """Compute the chain of FILE anew; exit code 1 if it is not whole.

    The file may be in use.
    """
    from gelert.serve.audit import key_path, read_key
    from gelert.serve.audit_check import check

    path = _file(path)
    found = check(path, read_key(key or key_path(path)))
    click.echo(f"{found.records} records from number {found.first}, {found.checkpoints} checkpoints")
    click.echo(f"head {found.head.number} {found.head.hash}")
    for fault in found.faults:
        click.echo(f"broken: {fault}", err=True)
    click.echo("the chain is not whole" if found.faults else "the chain is whole")
    sys.exit(1 if found.faults else 0)


@command.command()
@click.argument("path", type=FILE, required=False, metavar="[FILE]")
def export(path: Path | None) -> None:
    """Print each record of FILE as a line of JSON."""
    from gelert.serve import audit_check

    for line in audit_check.export(_file(path)):
        click.echo(line)


@command.command()
@click.argument("path", type=FILE, required=False, metavar="[FILE]")
@key_option
@click.option("--keep-days", type=click.FloatRange(min=0), required=True, help="Keep what is younger.")
def prune(path: Path | None, key: Path | None, keep_days: float) -> None:
    """Forget old records of FILE, up to a checkpoint, so that the rest can still be verified.

    The service must be stopped.
    """
    from gelert.serve import audit_check
    from gelert.serve.audit import key_path, read_key

    path = _file(path)
    count = audit_check.prune(path, read_key(key or key_path(path)), keep_days * 86_400)
    click.echo(f"{count} records forgotten")


def _file(path: Path | None) -> Path:
    from gelert.serve.places import audit_path

    return path or audit_path()
