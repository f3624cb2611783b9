"""Real runtimes behind the hooks: what is unsafe is not done, what is safe is done as before, and no fault opens.

Run with ``make test-runtimes``. A Codex or Claude Code turn is real, tools are really run; only the model is scripted.
"""

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from gelert.serve.hooks.event import Runtime
from tests.runtimes.guarded import REPLY, Place, claw, killed_in_the_middle, run, service, settle, shown, trust_hooks
from tests.runtimes.small_disk import small_disk
from tests.serve.hooks.support import impostor
from tests.serve.hooks.test_shim import drips, sends
from tests.serve.scripted_guard import MARK

pytestmark = pytest.mark.real_runtime

HOOKED = [Runtime.CODEX, Runtime.CLAUDE_CODE]
SAFE = "echo safe > {marker}; echo seen"
UNSAFE = f"echo {MARK} > {{marker}}"
FAULTS = ["down", "hang", "garbage", "drip", "killed", "disk full"]


@pytest.mark.parametrize("runtime", HOOKED)
def test_an_unsafe_tool_call_is_not_run_and_the_agent_is_told_why(runtime: Runtime, tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        ran = run(place, UNSAFE)
    assert not ran.marker
    assert "gelert: blocked: risk 0.99 on tool_call" in ran.told
    assert ran.code == 0


@pytest.mark.parametrize("runtime", HOOKED)
def test_a_benign_run_has_the_same_effects_and_words_as_without_a_guard(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "guarded").mkdir()
    bare = run(settle(runtime, tmp_path / "bare", guarded=False), SAFE)
    place = settle(runtime, tmp_path / "guarded")
    with service(place):
        guarded = run(place, SAFE)
    assert bare.files == guarded.files == {"marker": "safe\n"}
    assert shown(runtime, bare.out) == shown(runtime, guarded.out) == [REPLY]
    assert (bare.code, len(bare.asked)) == (guarded.code, len(guarded.asked))


@pytest.mark.parametrize("runtime", HOOKED)
def test_an_unsafe_reply_is_withheld_or_where_it_cannot_be_taken_back(runtime: Runtime, tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        ran = run(place, "", reply=f"here is {MARK}")
    words = shown(runtime, ran.out)
    if runtime is Runtime.CLAUDE_CODE:
        assert not [text for text in words if MARK in text]
    else:
        # Codex has no gate before the reply: it was shown already when the guard is asked.
        assert words == [f"here is {MARK}", "revised"]
    assert "gelert: blocked: risk 0.99 on reply" in ran.told


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("runtime", HOOKED)
def test_whatever_is_wrong_with_the_service_no_tool_runs_and_it_is_said(
    runtime: Runtime, name: str, tmp_path: Path
) -> None:
    place = settle(runtime, tmp_path)
    with faulty(place, name):
        ran = run(place, SAFE, seconds=4.0)
    assert not ran.marker
    assert "gelert: degraded" in ran.told
    if runtime is Runtime.CLAUDE_CODE:
        assert not [text for text in shown(runtime, ran.out) if REPLY in text]
        assert "[withheld] gelert: degraded" in ran.out


@pytest.mark.parametrize("runtime", HOOKED)
def test_a_hook_whose_command_is_gone_blocks_all_the_same(runtime: Runtime, tmp_path: Path) -> None:
    place = settle(runtime, tmp_path, trusted=False)
    path = place.home / ("hooks.json" if runtime is Runtime.CODEX else "settings.json")
    path.write_text(path.read_text().replace("/python", "/no-such-python"))
    if runtime is Runtime.CODEX:
        trust_hooks(place)
    with service(place):
        ran = run(place, SAFE)
    assert not ran.marker
    # Claude Code asks the hook about the prompt already, and says there that it did not run.
    assert "its hook did not run" in ran.told + ran.out


def test_openclaw_does_not_run_an_unsafe_tool_call_and_runs_a_safe_one(tmp_path: Path) -> None:
    (tmp_path / "unsafe").mkdir()
    (tmp_path / "safe").mkdir()
    place = claw(tmp_path / "unsafe")
    with service(place):
        ran = run(place, UNSAFE)
    assert not ran.marker
    assert "gelert: blocked: risk 0.99 on tool_call" in ran.told
    place = claw(tmp_path / "safe")
    with service(place):
        ran = run(place, SAFE)
    assert ran.files == {"marker": "safe\n"}
    assert REPLY in ran.out


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_is_wrong_with_the_service_openclaw_does_not_begin(name: str, tmp_path: Path) -> None:
    place = claw(tmp_path)
    with faulty(place, name):
        ran = run(place, SAFE)
    assert not ran.marker
    assert "gelert: degraded" in ran.out + ran.said


def test_codex_skips_a_hook_that_was_never_trusted_and_says_nothing(tmp_path: Path) -> None:
    """Why ``gelert install codex`` speaks of a review, and why ``gelert doctor`` asks Codex for it."""
    place = settle(Runtime.CODEX, tmp_path, trusted=False)
    with service(place):
        ran = run(place, UNSAFE)
    assert ran.marker


@contextmanager
def on_a_full_disk(place: Place) -> Generator[None]:
    """The real service, whose audit has no room left."""
    with small_disk(place.root / "disk") as disk, service(place, folder=disk.path):
        disk.fill()
        yield


def faulty(place: Place, name: str) -> AbstractContextManager[None]:
    """What is wrong with the service while a run lasts."""
    match name:
        case "hang":
            return impostor(place.socket, lambda _: time.sleep(60))
        case "garbage":
            return impostor(place.socket, sends(b"\x00\xff garbage"))
        case "drip":
            return impostor(place.socket, drips)
        case "killed":
            return killed_in_the_middle(place)
        case "disk full":
            return on_a_full_disk(place)
        case _:
            return nullcontext()
