"""Opens the doors, serves until it is told to stop, and leaves no question unanswered then."""

import asyncio
import errno
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from gelert.core.errors import InputError
from gelert.serve.limits import Limits

MOST_CONNECTIONS = 4_096
SWITCH_SECONDS = 0.001
"""How long one thread may keep the interpreter: a decision changes threads four times, and 5 ms each would be felt."""


def tcp(host: str, port: int) -> socket.socket:
    """A socket that listens on TCP.

    Raises:
        InputError: the address cannot be had.
    """
    # The protocol is named because asyncio sends small parts at once on such sockets only; others wait 40 ms for more.
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as fault:
        found.close()
        raise InputError(f"expected a free port, got {fault.strerror} ({host}:{port}); pass --port") from None
    return found


def unix(path: Path) -> socket.socket:
    """A Unix socket that only its owner opens; what a dead service left is taken away.

    Raises:
        InputError: another service listens there, or the path cannot be had.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        before = os.umask(0o177)
        try:
            found.bind(str(path))
        finally:
            os.umask(before)
    except (OSError, InputError) as fault:
        found.close()
        if isinstance(fault, InputError):
            raise
        raise InputError(
            f"expected a path for a socket, got {fault} ({path}); pass --socket or set GELERT_SOCKET"
        ) from None
    return found


def _clear(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as fault:
            if fault.errno == errno.ECONNREFUSED and path.is_socket():
                path.unlink()
            return
    raise InputError(f"expected no other service, but one listens on {path}; stop it, or pass --socket")


def serve(app: FastAPI, sockets: list[socket.socket], limits: Limits) -> None:
    """Serve until SIGTERM or SIGINT; what has been asked by then is answered, within the deadline."""
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(limits.deadline_seconds) + 1,
        lifespan="on",
    )
    paths = [Path(one.getsockname()) for one in sockets if one.family == socket.AF_UNIX]
    # uvicorn drains on SIGTERM, then raises it once more for whoever handled it before: nobody need die of it then.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets))
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
