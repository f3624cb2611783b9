"""``gelert approvals``: what the running service asks a person about, and the person's answers."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import click

from gelert.core.errors import InputError, missing_extra

EXAMPLES = """\b
Examples:
  gelert approvals
  gelert approvals allow 5c1f0c6f2d3b7a90
  gelert approvals block 5c1f0c6f2d3b7a90 --remember
  gelert approvals list --json

\b
An answer holds for the same call in the same project: allowed, it passes once, or each time with --remember. Nothing
that the policy blocks, and nothing without a verdict, can be allowed. A call that nobody answers is forgotten after a
while.
"""

ANSWER_SECONDS = 10.0

socket_option = click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), help="Unix socket. Default: GELERT_SOCKET."
)
remember_option = click.option("--remember", is_flag=True, help="Answer the same call so from now on.")
json_option = click.option("--json", "as_lines", is_flag=True, help="Print one JSON object a line.")


@click.group(epilog=EXAMPLES, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List the calls that wait for a person, and answer them."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@command.command("list")
@json_option
@socket_option
def list_(*, as_lines: bool = False, socket_path: Path | None = None) -> None:
    """Show the calls that wait, and the answers that are remembered."""
    found = _asked("GET", "", socket_path)
    for state in ("waiting", "remembered"):
        for row in found[state]:
            click.echo(json.dumps({"state": state, **row}) if as_lines else _shown(state, row))
    if not as_lines and not any(found.values()):
        click.echo("no call waits, and no answer is remembered")


@command.command()
@click.argument("name", metavar="ID")
@remember_option
@socket_option
def allow(name: str, *, remember: bool, socket_path: Path | None) -> None:
    """Let the call ID pass once, or each time."""
    _asked("POST", name, socket_path, {"answer": "allow", "remember": remember})
    click.echo(f"allowed {'from now on' if remember else 'once'}; the agent can try again")


@command.command()
@click.argument("name", metavar="ID")
@remember_option
@socket_option
def block(name: str, *, remember: bool, socket_path: Path | None) -> None:
    """Block the call ID for now, or each time."""
    _asked("POST", name, socket_path, {"answer": "block", "remember": remember})
    click.echo(f"blocked {'from now on' if remember else 'for now'}")


@command.command()
@click.argument("name", metavar="ID")
@socket_option
def forget(name: str, *, socket_path: Path | None) -> None:
    """Forget the remembered answer ID: the next such call is asked about again."""
    _asked("DELETE", name, socket_path)
    click.echo("forgotten")


Row = Mapping[str, object]


def _asked(
    method: str, name: str, socket_path: Path | None, body: Row | None = None
) -> Mapping[str, list[dict[str, object]]]:
    """What the service answers.

    Raises:
        InputError: there is none, or it refuses.
    """
    try:
        import httpx
    except ModuleNotFoundError:
        raise missing_extra("the service", "serve") from None
    from gelert.guard.formats.untrusted import as_object, text_at
    from gelert.serve.places import socket_path as default_path

    path = socket_path or default_path()
    url = f"http://localhost/v1/approvals{'/' + quote(name, safe='') if name else ''}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=ANSWER_SECONDS) as client:
            came = client.request(method, url, json=body)
            found = came.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
        raise InputError(
            f"expected the service at {path}, got {type(fault).__name__}; run gelert serve, or pass --socket"
        ) from None
    if not came.is_success:
        reason = text_at(as_object(as_object(found).get("error")), "message") or "expected an id"
        raise InputError(f"{reason} (got {name!r}); run: gelert approvals list")
    return found


def _shown(state: str, row: Row) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(row["at"]))))
    if state == "remembered":
        return f"{row['id']}  {when}  always {row['answer']}  {row['tool']}  in {row['project'] or 'no project'}"
    where = f"in {row['project'] or 'no project'}, {row['runtime']} {row['session']}".rstrip()
    arguments = "".join(f"\n    {line}" for line in str(row["arguments"]).split("\n"))
    return f"{row['id']}  {when}  {row['tool']}  {where}\n  {row['reason']}{arguments}"
