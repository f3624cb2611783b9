"""Where the service listens and keeps its files, for every command that needs to find it."""

import os
import secrets
from pathlib import Path

from gelert.core.errors import InputError

TOKEN_BYTES = 32


def home() -> Path:
    """The folder of token and audit: ``GELERT_HOME``, or ``~/.gelert``."""
    return Path(os.environ.get("GELERT_HOME") or Path.home() / ".gelert")


def socket_path() -> Path:
    """Of the Unix socket: ``GELERT_SOCKET``, ``$XDG_RUNTIME_DIR/gelert.sock``, or in the home folder."""
    if given := os.environ.get("GELERT_SOCKET"):
        return Path(given)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "gelert.sock" if runtime else home() / "gelert.sock"


def token_path() -> Path:
    """Of the API token."""
    return home() / "token"


def audit_path() -> Path:
    """Of the audit file."""
    return home() / "audit.db"


def make_private(folder: Path) -> None:
    """Make a folder that only its owner enters, if it is not there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def token(path: Path) -> str:
    """The API token; a fresh one (0600) on the first start.

    Raises:
        InputError: the file cannot be read, others can read it, or it holds no token.
    """
    make_private(path.parent)
    try:
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        if path.stat().st_mode & 0o077:
            raise InputError(f"expected a token that only its owner reads; run: chmod 600 {path}")
        found = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(
            f"expected a token of plain letters, got {fault} ({path}); remove the file for a fresh one"
        ) from None
    if len(found) < 16:
        raise InputError(
            f"expected a token of at least 16 letters, got {len(found)} ({path}); remove the file for a fresh one"
        )
    return found
