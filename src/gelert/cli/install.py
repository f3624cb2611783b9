"""``gelert install``: the guard's hooks in a runtime's own settings."""

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gelert.serve.install import Change

EPILOG = """\b
Examples:
  gelert install claude-code --dry-run
  gelert install codex --trust
  gelert install openclaw --uninstall

\b
Then: gelert serve, and gelert doctor RUNTIME in another window. What stood in the settings before stays; a copy of the
first state is kept beside the file.
"""

RUNTIMES = click.Choice(["codex", "claude-code", "openclaw"])
home_option = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="The runtime's own folder. Default: its usual one."
)
program_option = click.option(
    "--program", type=click.Path(dir_okay=False, path_type=Path), help="The runtime's program. Default: on the path."
)

UNTRUSTED = """\
Codex does not run a hook before you have reviewed it, and says nothing when it skips one.
Open Codex, type /hooks and trust the hooks of Gelert; or run: gelert install codex --trust"""
TRUST = """\
--trust writes Codex's own trust for these hooks into config.toml: it stands in for your review. They run:"""


@click.command(epilog=EPILOG)
@click.argument("runtime", type=RUNTIMES)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--uninstall", is_flag=True, help="Take the hooks out again.")
@click.option("--trust", "trusted", is_flag=True, help="Codex only: trust the hooks, in place of your review there.")
@click.option("--yes", is_flag=True, help="With --trust: do not ask.")
@home_option
@program_option
def command(
    runtime: str,
    dry_run: bool,
    uninstall: bool,
    trusted: bool,
    yes: bool,
    home: Path | None,
    program: Path | None,
) -> None:
    """Put the guard's hooks into the settings of RUNTIME."""
    from gelert.serve import install, runtimes
    from gelert.serve.hooks.event import Runtime

    kind = Runtime(runtime)
    if trusted and (kind is not Runtime.CODEX or uninstall):
        raise click.UsageError("--trust is for installing in codex")
    folder = home or runtimes.home(kind)
    change = install.uninstalled(kind, folder) if uninstall else install.installed(kind, folder)
    _show(change)
    if dry_run:
        return
    if change.needed:
        backup = install.carry_out(change)
        click.echo(f"written: {change.path}" + (f" (before: {backup})" if backup else ""))
    if uninstall:
        return
    if kind is Runtime.CODEX:
        if trusted:
            _trust(folder, program, yes=yes)
        else:
            click.echo(UNTRUSTED)
    click.echo(f"next: gelert serve; gelert doctor {runtime}")


def _show(change: "Change") -> None:
    if not change.needed:
        click.echo(f"nothing to change: {change.path}")
        return
    lines = difflib.unified_diff(
        change.before.splitlines(), change.after.splitlines(), str(change.path), str(change.path), lineterm="", n=2
    )
    for line in lines:
        click.echo(line)


def _trust(folder: Path, program: Path | None, *, yes: bool) -> None:
    from gelert.core.errors import InputError
    from gelert.serve import codex_trust, install, runtimes
    from gelert.serve.hooks.event import Runtime

    path = runtimes.program(Runtime.CODEX, program)
    hooks = [
        hook
        for hook in codex_trust.listed(path, folder, folder, dict(os.environ))
        if install.is_ours({"command": hook.command})
    ]
    if not hooks:
        raise InputError("expected Codex to list the hooks of Gelert, got none; see: gelert doctor codex")
    new = [hook for hook in hooks if hook.trust != codex_trust.TRUSTED]
    if not new:
        click.echo("Codex trusts the hooks already")
        return
    click.echo(TRUST)
    for hook in new:
        click.echo(f"  {hook.event}: {hook.command}")
    if not yes:
        click.confirm("Trust them?", abort=True)
    config = folder / "config.toml"
    before = config.read_text(encoding="utf-8") if config.exists() else ""
    install.carry_out(install.Change(config, before, codex_trust.trust(config, new), first=True))
    click.echo(f"trusted: {len(new)} hooks ({config})")
