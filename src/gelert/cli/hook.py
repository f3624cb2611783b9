"""``gelert hook``: what a runtime's hook runs, by hand."""

import os
import sys

import click

EPILOG = """\b
Examples:
  gelert hook codex PreToolUse < event.json
  gelert hook claude-code Stop < event.json

\b
Exit code 2 and a reason on stderr is a block. gelert install writes a line that starts faster than this one.
"""


@click.command(epilog=EPILOG)
@click.argument("runtime", type=click.Choice(["codex", "claude-code"]))
@click.argument("event", default="PreToolUse")
def command(runtime: str, event: str) -> None:
    """Ask the running service about the EVENT on standard input, as RUNTIME's hook does."""
    from gelert.serve.hooks import shim

    os.execv(sys.executable, [sys.executable, "-I", "-S", shim.__file__, runtime, event])
