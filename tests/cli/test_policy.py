"""`gelert policy`: a file is shown as it holds, and tried on recorded runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gelert.cli.policy import command
from gelert.core.errors import InputError

POLICY = """
[tool_call]
ask_at = 0.25
[tool_result]
mode = "observe"
[setting.codex.reply]
block_at = 0.75
[[rule]]
when = "sequence read_mail then exec"
"""

RUN = [
    {"role": "user", "content": "tidy up"},
    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "read_mail", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "a", "content": "nothing"},
    {"role": "assistant", "tool_calls": [{"id": "b", "function": {"name": "exec", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "b", "content": "ok"},
    {"role": "assistant", "content": "done"},
]
ANSWERS = ["safe", "safe", "safe", "unsafe", "prose"]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


def test_a_file_is_shown_as_it_holds(policy: Path) -> None:
    out = CliRunner().invoke(command, ["check", str(policy)], catch_exceptions=False)
    assert out.exit_code == 0
    assert out.output.splitlines() == [
        "tool_call: enforce, block at what the guard calls unsafe, ask at risk 0.25, without a verdict block",
        "tool_result: observe, block at what the guard calls unsafe, without a verdict ask",
        "reply: enforce, block at what the guard calls unsafe, without a verdict block",
        "reply in codex: enforce, block at risk 0.75, without a verdict block",
        "block: sequence read_mail then exec",
    ]


def test_a_file_that_is_no_policy_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[reply]\nblock_at = 7\n")
    with pytest.raises(InputError, match=r"reply\.block_at"):
        CliRunner().invoke(command, ["check", str(path)], catch_exceptions=False)


def tried(folder: Path, policy: Path, *options: str) -> Result:
    """The policy on one run, which the guard calls unsafe after the second result and cannot judge at its end."""
    log, answers = folder / "run.json", folder / "answers.jsonl"
    log.write_text(json.dumps({"messages": RUN}))
    answers.write_text("".join(json.dumps({"text": text}) + "\n" for text in ANSWERS))
    words = ["test", str(policy), str(log), "--guard", f"agentdog-1.0-coarse@recorded:{answers}", *options]
    return CliRunner().invoke(command, words, catch_exceptions=False)


def test_each_step_of_a_recorded_run_is_decided_as_it_stood_then(tmp_path: Path, policy: Path) -> None:
    out = tried(tmp_path, policy, "--json")
    assert out.exit_code == 0
    rows = [json.loads(line) for line in out.output.splitlines()]
    assert [(row["step"], row["surface"], row["verdict"], row["decision"], row["degraded"]) for row in rows] == [
        (1, "tool_call", "safe", "allow", False),
        (2, "tool_result", "safe", "allow", False),
        (3, "tool_call", "safe", "block", False),
        (4, "tool_result", "unsafe", "allow", False),
        (5, "reply", "unreadable", "block", True),
    ]
    assert rows[2]["reason"] == "the policy's rule 'sequence read_mail then exec'"


def test_the_table_shows_what_would_not_have_passed(tmp_path: Path, policy: Path) -> None:
    lines = tried(tmp_path, policy).output.splitlines()
    assert len(lines) == 3
    assert "step 3  tool_call" in lines[0]
    assert "no verdict" in lines[1]
    assert lines[2] == "3 allow, 0 ask, 2 block"


def test_a_log_that_cannot_be_read_is_said_and_exits_with_two(tmp_path: Path, policy: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"neither": "a run"}')
    answers = tmp_path / "none.jsonl"
    answers.write_text("")
    words = ["test", str(policy), str(broken), "--guard", f"agentdog-1.0-coarse@recorded:{answers}"]
    out = CliRunner().invoke(command, words, catch_exceptions=False)
    assert out.exit_code == 2
    assert "refused" in out.output
