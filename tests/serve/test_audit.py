"""What is particular to an audit in a file, and what is written down of a decision; the rest is in the contract."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.decision import Allow
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.core.verdict import Reading, Safe, Unreadable
from gelert.guard.policy import Surface
from gelert.serve import audit_check
from gelert.serve.asked import Asked
from gelert.serve.audit import Audit, key_path, read_key
from gelert.serve.audit_chain import CHECKPOINT_ROWS
from gelert.serve.entry import Entry, entry, line
from gelert.serve.redact import redacted
from tests.serve.support import checked, said


def written(path: Path, count: int) -> Path:
    """An audit file with ``count`` records."""
    with Audit(path) as audit:
        for done in [audit.append({"at": float(n), "n": n}) for n in range(count)]:
            done.result(timeout=10)
    return path


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 1)
    assert [p.stat().st_mode & 0o077 for p in (path, key_path(path))] == [0, 0]


def test_what_is_no_audit_file_is_not_whole(tmp_path: Path) -> None:
    written(tmp_path / "a.db", 1)
    path = tmp_path / "b.db"
    path.write_bytes(b"not a database" * 100)
    assert audit_check.check(path, read_key(tmp_path / "a.db.key")).faults


def test_forgetting_keeps_the_rest_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 2 * CHECKPOINT_ROWS + 5)
    key = read_key(key_path(path))
    assert audit_check.prune(path, key, 0.0) == 2 * CHECKPOINT_ROWS
    found = checked(path)
    assert (found.records, found.first, found.faults) == (5, 2 * CHECKPOINT_ROWS + 1, ())
    with Audit(path) as audit:
        assert audit.append({"n": 0}).result(timeout=10) == 2 * CHECKPOINT_ROWS + 6
    assert checked(path).faults == ()


def test_the_last_record_is_not_forgotten(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 2 * CHECKPOINT_ROWS)
    assert audit_check.prune(path, read_key(key_path(path)), 0.0) == CHECKPOINT_ROWS
    with Audit(path) as audit:
        assert audit.append({"n": 0}).result(timeout=10) == 2 * CHECKPOINT_ROWS + 1
    assert checked(path).faults == ()


def test_young_records_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", CHECKPOINT_ROWS)
    assert audit_check.prune(path, read_key(key_path(path)), 1e12) == 0
    assert checked(path).records == CHECKPOINT_ROWS


WRITER = """
import sys
from pathlib import Path
from gelert.serve.audit import Audit
audit = Audit(Path(sys.argv[1]))
waiting = []
while True:
    waiting.append(audit.append({"n": len(waiting)}))
    if len(waiting) % 20 == 0:
        print(waiting[-1].result(), flush=True)
"""


def test_what_was_said_to_be_written_is_there_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    acknowledged = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(5):
                acknowledged = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
        assert checked(path).records >= acknowledged
        assert checked(path).faults == ()
    assert acknowledged >= 300


def test_no_text_of_the_run_is_written_down() -> None:
    call = ToolCall("shell", '{"command": "cat /secret-file"}')
    asked = Asked(Surface.TOOL_CALL, said("I will look", calls=(call,)), "s", "api")
    found = line(entry(asked, "scripted", Safe(0.1, Reading(2, 2)), Allow(), 1.0))
    assert "look" not in found
    assert "secret-file" not in found
    assert '"tool":"shell"' in found


SECRETS = [
    "sk-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "Bearer abcdefgh.12345678",
    "password=hunter2hunter2",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "https://user:hunter2@host/",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_taken_out_of_what_is_written_down(secret: str) -> None:
    asked = Asked(Surface.REPLY, Trajectory(()), secret, secret, secret)
    found = line(entry(asked, "scripted", Unreadable(f"got {secret} there"), Allow(degraded=True), 1.0))
    assert "[redacted]" in found
    assert secret.rpartition("=")[2] not in found


@given(st.text(max_size=3000))
def test_any_text_can_be_redacted_and_is_bounded(text: str) -> None:
    assert len(redacted(text)) <= 401


@given(text=st.text(st.characters(exclude_categories=[]), max_size=30), number=st.integers())
def test_any_step_can_be_written_down(text: str, number: int) -> None:
    run = Trajectory((Step(Role.AGENT, text, calls=(ToolCall(text, text),)),), trajectory_id=text)
    found: Entry = entry(Asked(Surface.REPLY, run, text, text, text), text, Unreadable(text), Allow(), float(number))
    told = json.loads(line(found).encode())
    assert (told["surface"], told["steps"], told["step"]["call_count"]) == ("reply", 1, 1)
