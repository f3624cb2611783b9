"""Where a runtime's program and its own folder are."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from gelert.core.errors import MissingError
from gelert.serve.hooks.event import Runtime
from gelert.serve.hooks.transcript import claude_home, codex_home

VERSION_SECONDS = 60
TESTED = {Runtime.CODEX: "0.163.0", Runtime.CLAUDE_CODE: "2.1.330", Runtime.OPENCLAW: "2026.9.6"}
"""The releases that the guarantees were tested on."""

_PROGRAMS = {Runtime.CODEX: "codex", Runtime.CLAUDE_CODE: "claude", Runtime.OPENCLAW: "openclaw"}
_PACKAGED = {
    Runtime.CODEX: ("codex_cli_bin", "bin/codex"),
    Runtime.CLAUDE_CODE: ("claude_agent_sdk", "_bundled/claude"),
}


def program(runtime: Runtime, given: Path | None = None) -> Path:
    """The runtime's program: the one given, the one on the path, or the one inside its Python package.

    Raises:
        MissingError: there is none.
    """
    if given is not None:
        if given.is_file():
            return given
        raise MissingError(f"expected the program of {runtime.value}, got no file at {given}; check --program")
    if on_path := shutil.which(_PROGRAMS[runtime]):
        return Path(on_path)
    package, inside = _PACKAGED.get(runtime, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(folder) / inside).is_file():
            return found
    raise MissingError(f"expected {_PROGRAMS[runtime]!r} on the path, got none; install {runtime.value}, or --program")


def version(path: Path) -> str:
    """What the program says of itself; empty if it does not say.

    Raises:
        MissingError: it cannot be started.
    """
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False, stdin=-3
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise MissingError(f"expected a program that starts, got {fault}; reinstall it") from None
    return said.stdout.strip().splitlines()[0] if said.stdout.strip() else ""


def home(runtime: Runtime) -> Path:
    """The folder in which the runtime keeps its configuration."""
    match runtime:
        case Runtime.CODEX:
            return codex_home()
        case Runtime.CLAUDE_CODE:
            return claude_home()
        case Runtime.OPENCLAW:
            return Path(os.environ.get("OPENCLAW_STATE_DIR") or Path.home() / ".openclaw")


def settings_file(runtime: Runtime, folder: Path) -> Path:
    """The file in it that names the hooks."""
    return (
        folder
        / {
            Runtime.CODEX: "hooks.json",
            Runtime.CLAUDE_CODE: "settings.json",
            Runtime.OPENCLAW: "openclaw.json",
        }[runtime]
    )
