"""What Codex itself says of its hooks, and how its trust in one is written down.

Codex skips a hook that nobody reviewed, without a word. Its app server names each hook's key and hash without a model.
"""

import json
import re
import subprocess
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

from gelert.core.errors import InputError, MissingError
from gelert.guard.formats.untrusted import Object, as_object, objects, text_at

SECONDS = 90.0
MOST_LINES = 1_000
MOST_LINE_BYTES = 1 << 20
TRUSTED = "trusted"
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Listed:
    """One hook as Codex sees it."""

    key: str
    command: str
    event: str
    hash: str
    trust: str
    enabled: bool
    timeout_seconds: float


def listed(program: Path, home: Path, folder: Path, variables: dict[str, str]) -> list[Listed]:
    """Every hook that Codex would run in ``folder``.

    Args:
        program: Codex's.
        home: its own folder.
        folder: where the agent would work.
        variables: the environment.

    Raises:
        MissingError: it does not answer.
    """
    asked: list[Object] = [
        {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "gelert", "version": "0"}}},
        {"method": "initialized"},
        {"id": 2, "method": "hooks/list", "params": {"cwds": [str(folder)]}},
    ]
    try:
        process = subprocess.Popen(
            [program, "app-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**variables, "CODEX_HOME": str(home)},
        )
    except OSError as fault:
        raise MissingError(f"expected a Codex that starts, got {fault}; reinstall it") from None
    watch = threading.Timer(SECONDS, process.kill)
    watch.start()
    try:
        found = _asked(process, asked)
    finally:
        watch.cancel()
        process.kill()
        process.communicate()
    if found is None:
        raise MissingError(f"expected a list of hooks from {program} app-server, got none; is it Codex 0.163 or newer?")
    return [_listed(hook) for place in objects(found.get("data")) for hook in objects(place.get("hooks"))]


def trust(config: Path, hooks: list[Listed]) -> str:
    """The text of ``config.toml`` with the hash of each of ``hooks`` in it.

    Raises:
        InputError: the file is no TOML, or would be none.
    """
    text = config.read_text(encoding="utf-8") if config.exists() else ""
    for hook in hooks:
        if not _HASH.fullmatch(hook.hash):
            raise InputError(
                f"expected a hash of Codex's, got {hook.hash[:80]!r}; trust the hooks with /hooks in Codex"
            )
        old = _states(text, config).get(hook.key, {}).get("trusted_hash")
        if isinstance(old, str) and old:
            text = text.replace(json.dumps(old), json.dumps(hook.hash))
        else:
            text = f"{text.rstrip()}\n\n[hooks.state.{json.dumps(hook.key)}]\ntrusted_hash = {json.dumps(hook.hash)}\n"
    after = _states(text, config)
    if any(after.get(hook.key, {}).get("trusted_hash") != hook.hash for hook in hooks):
        raise InputError(f"expected room for the hooks' trust in {config}; trust them with /hooks in Codex")
    return text.lstrip("\n")


def _states(text: str, config: Path) -> dict[str, Object]:
    try:
        found = as_object(as_object(as_object(tomllib.loads(text)).get("hooks")).get("state"))
    except tomllib.TOMLDecodeError as fault:
        raise InputError(f"expected TOML, got {fault} ({config}); mend it, nothing was changed") from None
    return {key: as_object(value) for key, value in found.items()}


def _asked(process: "subprocess.Popen[bytes]", asked: list[Object]) -> Object | None:
    """The result of the last question."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("".join(json.dumps(one) + "\n" for one in asked).encode())
        process.stdin.flush()
        for _ in range(MOST_LINES):
            line = process.stdout.readline(MOST_LINE_BYTES)
            if not line:
                return None
            answer = as_object(json.loads(line))
            if answer.get("id") == asked[-1]["id"]:
                return as_object(answer.get("result")) if "result" in answer else None
    except (OSError, ValueError):
        return None
    return None


def _listed(hook: Object) -> Listed:
    seconds = hook.get("timeoutSec")
    return Listed(
        text_at(hook, "key"),
        text_at(hook, "command"),
        text_at(hook, "eventName", "event"),
        text_at(hook, "currentHash"),
        text_at(hook, "trustStatus"),
        hook.get("enabled") is not False,
        float(seconds) if isinstance(seconds, (int, float)) else 0.0,
    )
