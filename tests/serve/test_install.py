"""What ``gelert install`` writes: all that stood there stays, twice is once, and out again is as before."""

import json
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.serve import install
from gelert.serve.codex_trust import Listed, trust
from gelert.serve.hooks import shim
from gelert.serve.hooks.event import EVENTS, Runtime
from gelert.serve.runtimes import settings_file

HOOKED = [Runtime.CODEX, Runtime.CLAUDE_CODE]
THEIRS: dict[str, Any] = {
    "model": "own",
    "hooks": {
        "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "./own.sh"}]}],
        "SessionStart": [{"hooks": [{"type": "command", "command": "./hello.sh"}]}],
    },
    "plugins": {"allow": ["other"], "load": {"paths": ["/other"]}, "entries": {"other": {"enabled": False}}},
}


@pytest.fixture(params=list(Runtime), ids=lambda r: r.value)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.param


def put(runtime: Runtime, folder: Path, value: object) -> Path:
    path = settings_file(runtime, folder)
    path.write_text(json.dumps(value))
    return path


def test_what_stood_there_stays_and_out_again_is_as_before(runtime: Runtime, tmp_path: Path) -> None:
    path = put(runtime, tmp_path, THEIRS)
    backup = install.carry_out(install.installed(runtime, tmp_path))
    inside = json.loads(path.read_text())
    assert inside != THEIRS
    assert inside["hooks"]["PreToolUse"][0] == THEIRS["hooks"]["PreToolUse"][0]
    assert inside["hooks"]["SessionStart"] == THEIRS["hooks"]["SessionStart"]
    assert inside["plugins"]["entries"]["other"] == {"enabled": False}
    assert backup is not None
    assert json.loads(backup.read_text()) == THEIRS
    install.carry_out(install.uninstalled(runtime, tmp_path))
    assert json.loads(path.read_text()) == THEIRS


def test_twice_is_once_and_the_first_backup_is_kept(runtime: Runtime, tmp_path: Path) -> None:
    put(runtime, tmp_path, THEIRS)
    install.carry_out(install.installed(runtime, tmp_path))
    assert not install.installed(runtime, tmp_path).needed
    path = settings_file(runtime, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "changed"}))
    backup = install.carry_out(install.uninstalled(runtime, tmp_path))
    assert backup is not None
    assert json.loads(backup.read_text()) == THEIRS


def test_where_nothing_stood_nothing_is_left(runtime: Runtime, tmp_path: Path) -> None:
    install.carry_out(install.installed(runtime, tmp_path / "new"))
    path = settings_file(runtime, tmp_path / "new")
    assert path.stat().st_mode & 0o777 == 0o600
    install.carry_out(install.uninstalled(runtime, tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []


def test_the_command_line_is_the_same_however_gelert_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    before = install.command_line(Runtime.CODEX, "Stop")
    monkeypatch.setattr("sys.executable", "/elsewhere/python3.99")
    assert install.command_line(Runtime.CODEX, "Stop") == before


@pytest.mark.parametrize("hooked", HOOKED)
def test_an_older_hook_of_ours_is_mended_in_its_place(hooked: Runtime, tmp_path: Path) -> None:
    path = put(hooked, tmp_path, {})
    install.carry_out(install.installed(hooked, tmp_path))
    good = path.read_text()
    found = json.loads(good)
    found["hooks"]["PreToolUse"][0]["hooks"][0]["timeout"] = 1
    found["hooks"]["PreToolUse"].append(THEIRS["hooks"]["PreToolUse"][0])
    path.write_text(json.dumps(found))
    install.carry_out(install.installed(hooked, tmp_path))
    groups = json.loads(path.read_text())["hooks"]["PreToolUse"]
    assert groups == [json.loads(good)["hooks"]["PreToolUse"][0], THEIRS["hooks"]["PreToolUse"][0]]


def test_claude_code_is_told_to_block_when_a_hook_fails_and_both_wait_longer_than_the_hook() -> None:
    assert install.entry(Runtime.CLAUDE_CODE, "PreToolUse")["onFailure"] == "block"
    assert install.TIMEOUT_SECONDS > shim.DEADLINE_SECONDS


def test_a_list_of_allowed_plugins_is_added_to_and_never_begun(tmp_path: Path) -> None:
    put(Runtime.OPENCLAW, tmp_path, {})
    assert '"allow"' not in install.installed(Runtime.OPENCLAW, tmp_path).after
    put(Runtime.OPENCLAW, tmp_path, THEIRS)
    assert json.loads(install.installed(Runtime.OPENCLAW, tmp_path).after)["plugins"]["allow"] == ["other", "gelert"]


@pytest.mark.parametrize("text", ["{", "[]", '{"hooks": []}', '{"hooks": {"PreToolUse": {}}}', "// note\n{}", "\xff"])
def test_settings_that_are_not_understood_are_left_alone(text: str, tmp_path: Path) -> None:
    path = settings_file(Runtime.CLAUDE_CODE, tmp_path)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="nothing was changed"):
        install.installed(Runtime.CLAUDE_CODE, tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GROUPS = st.lists(st.fixed_dictionaries({"hooks": st.lists(st.fixed_dictionaries({"command": st.text()}), min_size=1)}))


@given(st.dictionaries(st.text(min_size=6), VALUES), st.dictionaries(st.sampled_from(EVENTS[Runtime.CODEX]), GROUPS))
def test_in_and_out_again_is_the_identity_on_any_settings(more: dict[str, Any], hooks: dict[str, Any]) -> None:
    kept = {event: groups for event, groups in hooks.items() if groups}
    before = {**more, **({"hooks": kept} if kept else {})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(Runtime.CODEX, folder, before)
        install.carry_out(install.installed(Runtime.CODEX, folder))
        install.carry_out(install.uninstalled(Runtime.CODEX, folder))
        path = settings_file(Runtime.CODEX, folder)
        assert (json.loads(path.read_text()) if path.exists() else {}) == before


@pytest.mark.parametrize("event", EVENTS[Runtime.CLAUDE_CODE])
def test_the_shell_itself_blocks_when_python_is_gone_or_the_command_is(event: str, tmp_path: Path) -> None:
    line = install.command_line(Runtime.CLAUDE_CODE, event)
    for broken in (line.replace("/python", "/no-such-python"), line.replace("shim.py", "no-shim.py")):
        done = subprocess.run(
            ["/bin/sh", "-c", broken], input="{}", capture_output=True, text=True, check=False, cwd=tmp_path
        )
        words = done.stdout or done.stderr
        assert "its hook did not run" in words
        assert done.returncode == (0 if event in ("Stop", "SubagentStop", "MessageDisplay") else 2)
        assert not done.stdout or json.loads(done.stdout)


def test_trust_is_written_beside_what_stands_there_and_renewed_in_place(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('model = "own"  # a note\n[hooks.state."other"]\ntrusted_hash = "sha256:aa"\n')
    first = Listed(
        "/h.json:pre_tool_use:0:0",
        "c",
        "preToolUse",
        "sha256:" + "1" * 64,
        "untrusted",
        enabled=True,
        timeout_seconds=30.0,
    )
    config.write_text(trust(config, [first]))
    second = Listed(first.key, "c", "preToolUse", "sha256:" + "2" * 64, "modified", enabled=True, timeout_seconds=30.0)
    config.write_text(trust(config, [second]))
    found = tomllib.loads(config.read_text())
    assert "# a note" in config.read_text()
    assert found["hooks"]["state"] == {
        "other": {"trusted_hash": "sha256:aa"},
        first.key: {"trusted_hash": second.hash},
    }


def test_a_hash_that_is_none_and_a_file_that_is_no_toml_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    with pytest.raises(InputError, match="hash"):
        trust(config, [Listed("k", "c", "e", 'sha256:"\nmodel="x"', "untrusted", enabled=True, timeout_seconds=1.0)])
    config.write_text("= nonsense")
    with pytest.raises(InputError, match="TOML"):
        trust(config, [Listed("k", "c", "e", "sha256:" + "1" * 64, "untrusted", enabled=True, timeout_seconds=1.0)])
