"""OpenClaw's gateway with the plugin: a person's client at its door, and a channel behind it."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.runtimes.guarded import NODE, RUN_SECONDS, START_SECONDS, Place, claw_words, end
from tests.runtimes.telegram import TOKEN, Telegram

KEY = "gateway-key"
QUIET_SECONDS = 4.0
"""Without an event after the last message: then the turn is over."""


@dataclass(frozen=True)
class Gateway:
    """One that is ready."""

    place: Place
    port: int

    def chat(self, message: str = "hello") -> list[dict[str, Any]]:
        """Every event that a client sees after ``chat.send``."""
        words = [str(NODE / "node"), str(Path(__file__).with_name("chat.mjs")), str(self.port), KEY, message]
        done = subprocess.run(
            [*words, str(int(QUIET_SECONDS * 1000))],
            env=self.place.variables(),
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return [event for event in json.loads(done.stdout) if event["event"] in ("agent", "chat")]

    def completion(self, message: str = "hello") -> str:
        """The body of the answer on the path that is like OpenAI's."""
        body = json.dumps({"model": "openclaw", "messages": [{"role": "user", "content": message}]}).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", body, headers)
        with urllib.request.urlopen(asked, timeout=RUN_SECONDS) as came:
            return came.read().decode()


@contextmanager
def gateway(place: Place, url: str, channel: Telegram | None = None) -> Generator[Gateway]:
    """The gateway, with its model at ``url``, for as long as the block lasts."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    claw_words(place, url)
    path = place.home / "openclaw.json"
    found = json.loads(path.read_text())
    found["gateway"] = {"mode": "local", "port": port, "bind": "loopback", "auth": {"mode": "token", "token": KEY}}
    found["gateway"]["http"] = {"endpoints": {"chatCompletions": {"enabled": True}}}
    if channel:
        open_to_all = {"dmPolicy": "open", "allowFrom": ["*"]}
        told = {"enabled": True, "botToken": TOKEN, "apiRoot": channel.url, **open_to_all}
        found["channels"] = {"telegram": told}
    path.write_text(json.dumps(found))
    log = place.root / "gateway.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(place.program), "gateway", "run"],
            cwd=place.workspace,
            env=place.variables(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while "[gateway] ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield Gateway(place, port)
    finally:
        end(process.pid)
        process.wait()
