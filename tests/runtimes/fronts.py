"""What a runtime is told is its model: the proxy of a real service, sound or with a fault."""

import os
import signal
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from gelert.serve.scripted_model import ScriptedModel
from tests.runtimes.guarded import RUN_SECONDS, Front, Place, service
from tests.runtimes.small_disk import small_disk

STRIKE_SECONDS = 0.5
"""From the model's answer to the blow; the guard hangs for longer."""


@contextmanager
def proxy(place: Place, model: ScriptedModel, mood: str = "WELL") -> Generator[str]:
    """The proxy, with a guard in some mood."""
    port = _free_port()
    with service(place, mood, proxied=(str(port), model.url)):
        yield _address(port)


@contextmanager
def struck(place: Place, model: ScriptedModel, blow: signal.Signals) -> Generator[str]:
    """The proxy, killed or stopped while its guard hangs on the model's first answer."""
    port = _free_port()
    with service(place, "HANGS", proxied=(str(port), model.url)) as process:

        def strike() -> None:
            until = time.monotonic() + RUN_SECONDS
            while time.monotonic() < until and not model.asked:
                time.sleep(0.05)
            time.sleep(STRIKE_SECONDS)
            os.kill(process.pid, blow)

        thread = threading.Thread(target=strike, daemon=True)
        thread.start()
        yield _address(port)
        thread.join(RUN_SECONDS)


@contextmanager
def full(place: Place, model: ScriptedModel) -> Generator[str]:
    """The proxy, whose audit lies on a disk that is full."""
    port = _free_port()
    with small_disk(place.root / "disk") as disk, service(place, folder=disk.path, proxied=(str(port), model.url)):
        disk.fill()
        yield _address(port)


@contextmanager
def garbage(_: Place, model: ScriptedModel) -> Generator[str]:
    """Something else that listens where the proxy should."""
    del model
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(b"\x00\xff garbage")

        threading.Thread(target=accept, daemon=True).start()
        yield _address(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)


@contextmanager
def down(_: Place, model: ScriptedModel) -> Generator[str]:
    """Nothing listens where the proxy should."""
    del model
    yield _address(_free_port())


FAULTS: dict[str, Front] = {
    "down": down,
    "garbage": garbage,
    "killed": partial(struck, blow=signal.SIGKILL),
    "stopped": partial(struck, blow=signal.SIGSTOP),
    "guard hangs": partial(proxy, mood="HANGS"),
    "guard raises": partial(proxy, mood="RAISES"),
    "disk full": full,
}


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}/proxy/model"
