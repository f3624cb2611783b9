"""``gelert serve``: the guard as a service in front of agents."""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.cli.audit import is_url, postgres_extra
from gelert.cli.guards import guard_option, open_guard
from gelert.core.errors import missing_extra

if TYPE_CHECKING:
    from gelert.serve.audit import Audit
    from gelert.serve.engine import Engine

EPILOG = """\b
Examples:
  gelert serve
  gelert serve --port 8787 --audit /var/lib/gelert/audit.db
  gelert serve --audit postgresql://gelert_one@host/gelert --instance one
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 gelert serve --otel
  gelert serve --upstream openai=https://api.openai.com
  curl -H "Authorization: Bearer $(cat ~/.gelert/token)" --data-binary @run.jsonl http://127.0.0.1:8787/v1/judge

\b
On SIGTERM it takes no more questions, answers those it has, and closes the audit.
"""


@click.command(epilog=EPILOG)
@guard_option
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What each surface does about a verdict (TOML); read again when it changes. Default: block what is unsafe.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--name", "names", multiple=True, help="A further name that requests may call the service by (Host).")
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 takes a free one.")
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="Unix socket. Default: GELERT_SOCKET.")
@click.option(
    "--audit",
    "audit_place",
    metavar="FILE|URL",
    help="Where decisions are kept: a file of its own, or postgresql://...",
)
@click.option(
    "--audit-key", type=click.Path(dir_okay=False, path_type=Path), help="Its signing key. Default: beside the file."
)
@click.option("--instance", help="This service's name among those on one database. Default: the host's name.")
@click.option("--power-safe", is_flag=True, help="Give no decision before the disk itself has it.")
@click.option(
    "--deadline", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds a decision."
)
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="NAME=URL",
    help="A model API that agents may reach as /proxy/NAME/..., every answer of it judged before it is passed on.",
)
@click.option("--otel", is_flag=True, help="Send a span per decision over OTLP/HTTP to where the OTEL_* variables say.")
def command(
    guard_name: str | None,
    policy_path: Path | None,
    host: str,
    names: tuple[str, ...],
    port: int,
    socket_path: Path | None,
    audit_place: str | None,
    audit_key: Path | None,
    instance: str | None,
    power_safe: bool,
    deadline: float,
    upstreams: tuple[str, ...],
    otel: bool,
) -> None:
    """Answer over HTTP and a Unix socket whether an agent's tool call, tool result or reply may go on.

    Every decision is written down before it is given; what fails on the way is blocked and marked degraded.
    """
    try:
        from gelert.serve import app, listen
        from gelert.serve.dashboard import app as dashboard
        from gelert.serve.hooks import app as hooks
        from gelert.serve.proxy import app as proxy
    except ModuleNotFoundError as fault:
        if fault.name and fault.name.startswith("gelert"):
            raise
        raise missing_extra("the service", "serve") from None
    from gelert.guard.policy import Policy
    from gelert.guard.policy_file import PolicyFile
    from gelert.serve import places
    from gelert.serve.approvals import Approvals
    from gelert.serve.approvals_file import approvals_path
    from gelert.serve.engine import Engine, Limits
    from gelert.serve.gate import LOOPBACK, Settings
    from gelert.serve.proxy.upstream import upstream

    spans = _spans() if otel else nullcontext
    limits = Limits(deadline_seconds=deadline)
    policy = PolicyFile(policy_path) if policy_path else Policy()
    token = places.token(places.token_path())
    doors = [listen.tcp(host, port), listen.unix(socket_path or places.socket_path())]
    audit, kept = _audit(audit_place, audit_key, instance, power_safe)
    approvals = Approvals(approvals_path(audit.path))
    engine = Engine(open_guard(guard_name), policy, audit, limits, approvals)
    settings = Settings(token, (*LOOPBACK, host, *names), (proxy.PREFIX,))
    proxied = proxy.router(engine, [upstream(one) for one in upstreams])
    routers = [dashboard.router(engine), hooks.router(engine), proxied]
    url = f"http://{_shown(host)}:{doors[0].getsockname()[1]}"
    click.echo(f"guard   {engine.guard.name}")
    click.echo(f"listens {url}  and  {doors[1].getsockname()}")
    click.echo(f"token   {places.token_path()}")
    click.echo(f"audit   {kept}, {audit.head.number} records")
    click.echo(f"watch   gelert dashboard --url {url}")
    with spans(engine):
        listen.serve(app.build(engine, settings, *routers), doors, limits)


def _audit(place: str | None, key: Path | None, instance: str | None, power_safe: bool) -> "tuple[Audit, str]":
    """The audit, and where it is in words that tell no password."""
    from gelert.serve import places
    from gelert.serve.audit import Audit

    if place is None or not is_url(place):
        if instance is not None:
            raise click.UsageError("--instance is of an audit in a database; a file is one service's own")
        found = Audit(Path(place) if place else places.audit_path(), key, power_safe=power_safe)
        return found, str(found.path)
    if power_safe:
        raise click.UsageError("--power-safe is of a file; a database does what its synchronous_commit says")
    with postgres_extra():
        from gelert.serve.audit_postgres import PostgresStore
    name = socket.gethostname() if instance is None else instance
    return Audit(places.audit_path(), key, store=partial(PostgresStore, place, name)), f"PostgreSQL, as {name}"


def _spans() -> "Callable[[Engine], AbstractContextManager[None]]":
    try:
        from gelert.serve.telemetry import exported
    except ModuleNotFoundError as fault:
        if fault.name and fault.name.startswith("gelert"):
            raise
        raise missing_extra("the export of spans", "otel") from None
    return exported


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
