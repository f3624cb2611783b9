"""``gelert audit``: the decisions that the service wrote down."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.core.errors import missing_extra

if TYPE_CHECKING:
    from gelert.serve.audit_check import Checked

EXAMPLES = """\b
Examples:
  gelert audit verify
  gelert audit export audit.db > decisions.jsonl
  gelert audit prune audit.db --keep-days 90
  gelert audit schema | psql postgresql://owner@host/gelert
  gelert audit verify postgresql://reader@host/gelert --key audit.db.key

\b
verify shows that nothing was changed, taken out, put in, moved or cut off by anybody without the key. It cannot show
what whoever has the key wrote anew, nor that the whole store is not an older copy: note the head elsewhere and compare.
Of several instances on one database each chain is checked by itself.
"""

FILE = click.Path(dir_okay=False, path_type=Path)
PLACE = click.argument("place", required=False, metavar="[FILE|URL]")
key_option = click.option("--key", type=FILE, help="The signing key. Default: beside the file.")
instance_option = click.option("--instance", help="Of several on one database, this one only.")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Check and show the decisions that the service wrote down."""


@command.command()
@PLACE
@key_option
@instance_option
def verify(place: str | None, key: Path | None, instance: str | None) -> None:
    """Compute the chain of FILE, or each chain at URL, anew; exit code 1 if one is not whole.

    The services may be writing. Instances with keys of their own are verified one at a time: --instance, --key.
    """
    from gelert.serve.audit import key_path, read_key
    from gelert.serve.audit_check import check
    from gelert.serve.places import audit_path

    if place and is_url(place):
        with postgres_extra():
            from gelert.serve import audit_postgres_check
        chains = audit_postgres_check.check(place, read_key(key or key_path(audit_path())), instance)
        whole = [_shown(found, f"{name}: ") for name, found in chains.items()]
    else:
        path = _file(place, instance)
        whole = [_shown(check(path, read_key(key or key_path(path))))]
    sys.exit(0 if all(whole) else 1)


@command.command()
@PLACE
@instance_option
def export(place: str | None, instance: str | None) -> None:
    """Print each record of FILE, or of URL, as a line of JSON."""
    from gelert.serve import audit_check

    if place and is_url(place):
        with postgres_extra():
            from gelert.serve import audit_postgres_check
        lines = audit_postgres_check.export(place, instance)
    else:
        lines = audit_check.export(_file(place, instance))
    for line in lines:
        click.echo(line)


@command.command()
@click.argument("place", required=False, metavar="[FILE]")
@key_option
@click.option("--keep-days", type=click.FloatRange(min=0), required=True, help="Keep what is younger.")
def prune(place: str | None, key: Path | None, keep_days: float) -> None:
    """Forget old records of FILE, up to a checkpoint, so that the rest can still be verified.

    The service must be stopped.
    """
    from gelert.serve import audit_check
    from gelert.serve.audit import key_path, read_key

    if place and is_url(place):
        raise click.UsageError("expected a file: of a database no record is forgotten, got a URL")
    path = _file(place, None)
    count = audit_check.prune(path, read_key(key or key_path(path)), keep_days * 86_400)
    click.echo(f"{count} records forgotten")


@command.command()
def schema() -> None:
    """Print the SQL that makes the tables for several instances, and the role of those who write them."""
    with postgres_extra():
        from gelert.serve import audit_postgres
    click.echo(audit_postgres.schema(), nl=False)


def is_url(place: str) -> bool:
    """Whether an audit is in a database, and not in a file."""
    return place.startswith(("postgresql://", "postgres://"))


@contextmanager
def postgres_extra() -> Generator[None]:
    """Says which extra is missing."""
    try:
        yield
    except ImportError as fault:  # psycopg without libpq is one too
        if fault.name and fault.name.startswith("gelert"):
            raise
        raise missing_extra("an audit in PostgreSQL", "postgres") from None


def _shown(found: "Checked", name: str = "") -> bool:
    """Whether the chain is whole; that and its end are said."""
    click.echo(f"{name}{found.records} records from number {found.first}, {found.checkpoints} checkpoints")
    click.echo(f"{name}head {found.head.number} {found.head.hash}")
    for fault in found.faults:
        click.echo(f"{name}broken: {fault}", err=True)
    click.echo(f"{name}the chain is not whole" if found.faults else f"{name}the chain is whole")
    return not found.faults


def _file(place: str | None, instance: str | None) -> Path:
    from gelert.serve.places import audit_path

    if instance is not None:
        raise click.UsageError("--instance is of an audit in a database; a file holds one chain")
    return Path(place) if place else audit_path()
