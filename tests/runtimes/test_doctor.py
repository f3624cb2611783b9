"""``gelert doctor`` on real runtimes: it passes where the guard guards, and names what was sabotaged where not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gelert.serve.hooks.event import Runtime
from tests.runtimes.guarded import Place, claw, service, settle

pytestmark = pytest.mark.real_runtime

SECONDS = 400


def examine(place: Place) -> "subprocess.CompletedProcess[str]":
    options = ["--home", str(place.home), "--program", str(place.program)]
    words = [sys.executable, "-m", "gelert.cli.main", "doctor", place.runtime.value, *options]
    return subprocess.run(
        words, env=place.variables(), capture_output=True, text=True, check=False, timeout=SECONDS, cwd=place.root
    )


def edited(place: Place, change: Callable[[str], str]) -> None:
    path = place.home / ("hooks.json" if place.runtime is Runtime.CODEX else "settings.json")
    path.write_text(change(path.read_text()))


def without_pre_tool_use(text: str) -> str:
    found = json.loads(text)
    del found["hooks"]["PreToolUse"]
    return json.dumps(found)


@pytest.mark.parametrize("runtime", [Runtime.CODEX, Runtime.CLAUDE_CODE])
def test_an_installed_guard_passes_and_it_is_said_what_holds(runtime: Runtime, tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        done = examine(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "live call: the marked tool call was seen and stopped" in done.stdout
    assert "live reply: the marked reply was seen and stopped" in done.stdout
    assert "what holds:" in done.stdout


def test_openclaws_plugin_passes_and_the_paths_that_it_does_not_hold_are_named(tmp_path: Path) -> None:
    place = claw(tmp_path)
    with service(place):
        done = examine(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "live call: the marked tool call was seen and stopped" in done.stdout
    assert "not on /v1/chat/completions" in done.stdout


@pytest.mark.parametrize("runtime", [Runtime.CODEX, Runtime.CLAUDE_CODE])
def test_sabotage_a_hook_was_taken_out(runtime: Runtime, tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    edited(place, without_pre_tool_use)
    with service(place):
        named(examine(place), "FAULT hook PreToolUse: expected the guard's hook at PreToolUse, got none")


def test_sabotage_the_hooks_were_never_trusted(tmp_path: Path) -> None:
    place = settle(Runtime.CODEX, tmp_path, trusted=False)
    with service(place):
        named(examine(place), "Codex skips it without a word")


def test_sabotage_the_hooks_command_is_missing(tmp_path: Path) -> None:
    place = settle(Runtime.CLAUDE_CODE, tmp_path)
    edited(place, lambda text: text.replace("/python", "/no-such-python"))
    with service(place):
        named(examine(place), "FAULT hook PreToolUse: expected the hook's command, got no file at")


def test_sabotage_the_socket_is_gone(tmp_path: Path) -> None:
    named(examine(settle(Runtime.CLAUDE_CODE, tmp_path)), "FAULT socket: expected the service at")


@pytest.mark.parametrize("runtime", [Runtime.CODEX, Runtime.CLAUDE_CODE])
def test_sabotage_the_service_only_observes(runtime: Runtime, tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    with service(place, mode="observe"):
        named(examine(place), "FAULT live call: the guard saw the marked tool call and let it pass")


def test_sabotage_a_failing_hook_would_not_block(tmp_path: Path) -> None:
    place = settle(Runtime.CLAUDE_CODE, tmp_path)
    edited(place, lambda text: text.replace('"onFailure": "block"', '"onFailure": "allow"'))
    with service(place):
        named(examine(place), "FAULT hook PreToolUse: expected onFailure 'block' at PreToolUse, got 'allow'")


def named(done: "subprocess.CompletedProcess[str]", fault: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert fault in done.stdout
    assert "what holds:" not in done.stdout
