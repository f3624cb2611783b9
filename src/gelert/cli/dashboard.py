"""``gelert dashboard``: the page of the running service, with its token."""

import os
import webbrowser
from html import escape
from pathlib import Path

import click

EPILOG = """\b
Examples:
  gelert dashboard
  gelert dashboard --open
  gelert dashboard --url http://127.0.0.1:9000

\b
The address carries the API token behind the # sign, which browsers send to nobody. Who has it can read what the guard
sees and answer for you: do not share it.
"""


@click.command(epilog=EPILOG)
@click.option("--url", default="http://127.0.0.1:8787", show_default=True, help="Where the service listens.")
@click.option("--open", "opened", is_flag=True, help="Open it in a browser instead of printing it.")
def command(url: str, opened: bool) -> None:
    """Print the address of the running service's page: live decisions, approvals to answer, labels."""
    import httpx

    from gelert.core.errors import InputError
    from gelert.serve import places

    url = url.rstrip("/")
    try:
        there = httpx.get(f"{url}/dashboard", timeout=5).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        there = False
    if not there:
        raise InputError(f"expected a running service, got none ({url}); run gelert serve, or pass --url")
    address = f"{url}/dashboard#token={places.token(places.token_path())}"
    if opened:
        _open(address, places.home() / "dashboard.html")
    else:
        click.echo(address)


def _open(address: str, path: Path) -> None:
    """Open the address by way of a file: arguments of a process, such as a browser's, are seen by every user."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}">\n')
    if webbrowser.open(path.as_uri()):
        click.echo(f"opened {path}")
    else:
        click.echo(f"no browser here; open {path}", err=True)
