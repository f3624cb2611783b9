"""Faults that begin while a tool runs: its call was allowed, and neither its result nor a reply passes any more."""

from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from gelert.serve.hooks.event import Runtime
from tests.runtimes.guarded import REPLY, run, service, settle, shown
from tests.runtimes.small_disk import Disk, small_disk

pytestmark = pytest.mark.real_runtime

RESULT = "result-42"
TOOL = "echo ran > {marker}; echo result-$((6 * 7))"
"""Its words do not hold what it gives back, so that a call in the conversation is not taken for a result."""

BLOWS: dict[str, Callable[[Popen[bytes], Disk], str]] = {
    "killed": lambda process, _: f"kill -9 {process.pid}",
    "stopped": lambda process, _: f"kill -STOP {process.pid}",
    "disk full": lambda _, disk: disk.fills,
}
"""What the tool's command does to the service or its disk."""


@pytest.mark.parametrize("name", BLOWS)
@pytest.mark.parametrize("runtime", [Runtime.CODEX, Runtime.CLAUDE_CODE])
def test_the_model_does_not_read_the_result_and_the_reply_is_withheld_or_sent_back(
    runtime: Runtime, name: str, tmp_path: Path
) -> None:
    place = settle(runtime, tmp_path)
    with small_disk(tmp_path / "disk") as disk, service(place, folder=disk.path) as process:
        ran = run(place, f"{BLOWS[name](process, disk)}; {TOOL}", seconds=4.0)
    assert ran.marker
    assert RESULT not in ran.told
    assert "gelert: degraded" in ran.told
    if runtime is Runtime.CLAUDE_CODE:
        assert "[withheld] gelert: degraded" in ran.out
        assert not [text for text in shown(runtime, ran.out) if REPLY in text]
    else:
        # Codex has no gate before the reply; it is sent back, and then the turn ends.
        assert shown(runtime, ran.out)[0] == REPLY
        assert ran.told.count("gelert: degraded") > 1
