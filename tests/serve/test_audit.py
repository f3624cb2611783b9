"""The audit: what was written stays as it was, and whoever changes it without the key is found out."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.core.decision import Allow
from gelert.core.errors import InputError
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

UNLOCKED = "DROP TRIGGER unchanging; DROP TRIGGER lasting;"
"""What a thief does first: the triggers keep from accidents only."""


def written(path: Path, count: int) -> Path:
    """An audit file with ``count`` records."""
    with Audit(path) as audit:
        for done in [audit.append({"at": float(n), "n": n}) for n in range(count)]:
            done.result(timeout=10)
    return path


def tampered(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as rows:
        rows.executescript(UNLOCKED + script)


def test_records_are_numbered_from_one_and_the_chain_is_whole(tmp_path: Path) -> None:
    found = checked(written(tmp_path / "a.db", 7))
    assert (found.records, found.first, found.head.number, found.faults) == (7, 1, 7, ())


def test_a_second_start_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    written(tmp_path / "a.db", 3)
    found = checked(written(tmp_path / "a.db", 4))
    assert (found.records, found.head.number, found.faults) == (7, 7, ())


def test_closing_twice_is_closing(tmp_path: Path) -> None:
    with Audit(tmp_path / "a.db") as audit:
        audit.close()
    assert checked(tmp_path / "a.db").faults == ()


def test_two_services_do_not_write_to_one_file(tmp_path: Path) -> None:
    with Audit(tmp_path / "a.db"), pytest.raises(InputError, match="another service"):
        Audit(tmp_path / "a.db")


def test_the_file_can_be_verified_while_it_is_written(tmp_path: Path) -> None:
    with Audit(tmp_path / "a.db") as audit:
        audit.append({"n": 1}).result(timeout=10)
        assert checked(tmp_path / "a.db").records == 1
        assert checked(tmp_path / "a.db").faults == ()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 1)
    assert [p.stat().st_mode & 0o077 for p in (path, key_path(path))] == [0, 0]


def test_rows_are_not_changed_by_accident(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 2)
    for statement in ("UPDATE decision SET entry = '{}'", "DELETE FROM decision"):
        with closing(sqlite3.connect(path)) as rows, pytest.raises(sqlite3.IntegrityError, match="only added"):
            rows.execute(statement)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_is_changed_in_whichever_row_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = written(tmp_path_factory.mktemp("audit") / "a.db", 6)
    number = data.draw(st.integers(1, 6))
    column = data.draw(st.sampled_from(["number", "entry", "previous", "hash"]))
    value = 99 if column == "number" else f"'{data.draw(st.text('0123456789abcdef{}', min_size=1))}'"
    tampered(path, f"UPDATE decision SET {column} = {value} WHERE number = {number};")
    assert checked(path).faults


@pytest.mark.parametrize("number", range(1, 7))
def test_a_row_that_was_taken_out_is_found(tmp_path: Path, number: int) -> None:
    path = written(tmp_path / "a.db", 6)
    tampered(path, f"DELETE FROM decision WHERE number = {number};")
    assert checked(path).faults


@pytest.mark.parametrize("count", range(1, 7))
def test_an_end_that_was_cut_off_is_found(tmp_path: Path, count: int) -> None:
    path = written(tmp_path / "a.db", 6)
    tampered(path, f"DELETE FROM decision WHERE number > {6 - count};")
    assert checked(path).faults


def test_a_beginning_that_was_cut_off_at_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", CHECKPOINT_ROWS + 5)
    tampered(path, f"DELETE FROM decision WHERE number <= {CHECKPOINT_ROWS};")
    assert checked(path).faults


def test_rows_that_changed_places_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 4)
    tampered(
        path,
        "UPDATE decision SET number = 99 WHERE number = 2; UPDATE decision SET number = 2 WHERE number = 3;"
        "UPDATE decision SET number = 3 WHERE number = 99;",
    )
    assert checked(path).faults


def test_a_chain_that_was_computed_anew_without_the_key_is_found(tmp_path: Path) -> None:
    path, other = written(tmp_path / "a.db", 4), written(tmp_path / "other" / "a.db", 3)
    other.replace(path)
    assert checked(path).faults


def test_an_emptied_file_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 4)
    tampered(path, "DELETE FROM decision;")
    assert checked(path).faults


def test_a_service_does_not_go_on_with_a_chain_that_was_cut(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", 4)
    tampered(path, "DELETE FROM decision WHERE number = 4;")
    with pytest.raises(InputError, match="gelert audit verify"):
        Audit(path)


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


def test_export_gives_each_record_with_its_hash(tmp_path: Path) -> None:
    rows = list(audit_check.export(written(tmp_path / "a.db", 3)))
    assert len(rows) == 3
    assert '"number": 2' in rows[1]
    assert checked(tmp_path / "a.db").head.hash in rows[2]


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
    line(found).encode()
