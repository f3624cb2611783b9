"""``gelert doctor``: whether an installed guard guards."""

import os
import sys
from pathlib import Path

import click

from gelert.cli.install import RUNTIMES, home_option, program_option

EPILOG = """\b
Examples:
  gelert doctor codex
  gelert doctor claude-code --home ~/.claude

\b
It runs one turn of the real runtime against a scripted model on this machine: one harmless tool call and one reply that
bear a mark. Exit code 1 if anything is unsound.
"""


@click.command(epilog=EPILOG)
@click.argument("runtime", type=RUNTIMES)
@home_option
@program_option
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="Unix socket. Default: GELERT_SOCKET.")
def command(runtime: str, home: Path | None, program: Path | None, socket_path: Path | None) -> None:
    """Examine the guard of RUNTIME: settings, trust, service, and whether a marked call and reply are stopped."""
    from gelert.serve import doctor, places, runtimes
    from gelert.serve.hooks.event import Runtime

    kind = Runtime(runtime)
    path = socket_path or places.socket_path()
    variables = dict(os.environ) | {"GELERT_SOCKET": str(path)}
    patient = doctor.Patient(kind, (home or runtimes.home(kind)).absolute(), program, path, variables)
    sound = True
    for finding in doctor.examined(patient):
        sound = sound and finding.sound
        click.echo(f"{'ok   ' if finding.sound else 'FAULT'} {finding.name}: {finding.said}")
    if sound:
        click.echo("what holds:")
        for line in doctor.GUARANTEES[kind]:
            click.echo(f"  {line}")
    sys.exit(0 if sound else 1)
