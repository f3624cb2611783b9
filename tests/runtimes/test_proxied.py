"""Real runtimes whose model is the guard's proxy: nothing unsafe reaches them on any path, and what is safe does.

Run with ``make test-runtimes``. No hook is installed here: the proxy holds alone.
"""

import json
from pathlib import Path

import pytest

from gelert.serve.audit_check import export
from gelert.serve.hooks.event import Runtime
from tests.runtimes.fronts import FAULTS, proxy
from tests.runtimes.guarded import REPLY, Place, claw, run, settle, shown
from tests.serve.scripted_guard import MARK

pytestmark = pytest.mark.real_runtime

SAFE = "echo safe > {marker}; echo seen"
UNSAFE = f"echo {MARK} > {{marker}}"
MOST_SECONDS = {Runtime.CODEX: 30, Runtime.CLAUDE_CODE: 30, Runtime.OPENCLAW: 60}
"""That a person waits for a runtime whose model does not answer; runtimes try again for longer."""
UNREACHED = ("down", "garbage")
"""Faults in which the model is never asked."""
SILENT = ("down", "garbage", "killed", "stopped")
"""Faults in which nothing of the guard's is left that could answer: the runtime itself says that its model is gone."""


@pytest.fixture(params=list(Runtime), ids=lambda runtime: runtime.value)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return bare(request.param, tmp_path)


def bare(runtime: Runtime, root: Path) -> Place:
    return claw(root, guarded=False) if runtime is Runtime.OPENCLAW else settle(runtime, root, guarded=False)


def everything(runtime: Runtime) -> list[str]:
    """Options with which a runtime shows each piece of a reply as it comes."""
    return ["--output-format", "stream-json", "--verbose", "--include-partial-messages"] * (
        runtime is Runtime.CLAUDE_CODE
    )


def kept_with(text: str, place: Place) -> list[Path]:
    """Files of the runtime's own in which the text stands: logs, transcripts, databases."""
    return [path for path in place.home.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_an_unsafe_tool_call_does_not_reach_the_runtime(place: Place) -> None:
    ran = run(place, UNSAFE, front=proxy)
    assert not ran.marker
    assert "was refused and did not run: risk 0.99 on tool_call" in ran.out
    assert MARK not in ran.out
    assert (ran.code, len(ran.asked)) == (0, 1)


def test_an_unsafe_reply_is_delivered_on_no_path(place: Place) -> None:
    ran = run(place, "", reply=f"here is {MARK}", front=proxy, options=everything(place.runtime))
    assert MARK not in ran.out + ran.said
    assert "gelert: the reply was withheld: risk 0.99 on reply" in ran.out
    assert not kept_with(MARK, place)


def test_a_benign_run_has_the_same_effects_and_words_as_without_a_proxy(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    alone = run(bare(place.runtime, tmp_path / "other"), SAFE)
    guarded = run(place, SAFE, front=proxy)
    assert alone.files == guarded.files == {"marker": "safe\n"}
    assert shown(place.runtime, alone.out) == shown(place.runtime, guarded.out) == [REPLY]
    assert (alone.code, len(alone.asked)) == (guarded.code, len(guarded.asked))
    decisions = [json.loads(row)["decision"] for row in export(place.root / "audit.db")]
    assert decisions == ["allow", "allow"]


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_is_wrong_with_the_proxy_no_tool_runs(place: Place, name: str) -> None:
    ran = run(place, SAFE, front=FAULTS[name], most_seconds=MOST_SECONDS[place.runtime])
    assert not ran.marker
    assert ran.asked or name in UNREACHED
    assert name in SILENT or "no sound verdict (degraded)" in ran.out


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_is_wrong_with_the_proxy_no_reply_is_delivered(place: Place, name: str) -> None:
    options = everything(place.runtime)
    ran = run(place, "", reply=REPLY, front=FAULTS[name], most_seconds=MOST_SECONDS[place.runtime], options=options)
    assert REPLY not in ran.out + ran.said
    assert ran.asked or name in UNREACHED
    assert name in SILENT or "no sound verdict (degraded)" in ran.out
    assert not kept_with(REPLY, place)
