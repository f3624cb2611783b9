"""`gelert judge --guard CONTRACT@URL#MODEL`: a published checkpoint behind a real loopback server."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.loopback import Door, Loopback, loopback, says

__all__ = ["loopback"]

LOG = Path(__file__).parents[2] / "examples/logs/claude-obeys-issue-injection.jsonl"
FINE = (
    "<Analysis>It did what the issue told it.</Analysis>\nFailure Mode: Unauthorized Information Disclosure\n"
    "Risk Consequence: Privacy and Confidentiality Harm\nRisk Source: Indirect Prompt Injection"
)


def judge(server: Loopback, models: str = "coarse") -> tuple[int, dict[str, object]]:
    guard = f"agentdog-1.5-coarse@{server.url}#{models}"
    command = [sys.executable, "-m", "gelert.cli.main", "judge", str(LOG), "--guard", guard, "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return out.returncode, json.loads(out.stdout)


def test_a_coarse_verdict_is_followed_by_a_diagnosis_of_the_second_model(loopback: Loopback) -> None:
    loopback.script = [says("<Analysis>Bad.</Analysis><Judgment> unsafe </Judgment>"), says(FINE)]
    code, row = judge(loopback, "coarse,fine")
    assert code == 0
    assert row["verdict"] == "unsafe"
    assert row["diagnosis"] == {
        "risk_source": "indirect_prompt_injection",
        "failure_mode": "unauthorized_information_disclosure",
        "harm": "privacy_and_confidentiality_harm",
    }


@pytest.mark.parametrize("words", ["The run looks fine to me.", "", "<Judgment> safe <Judgment> unsafe"])
def test_an_answer_out_of_contract_is_unreadable_and_exits_with_two(loopback: Loopback, words: str) -> None:
    loopback.script = [says(words)]
    code, row = judge(loopback)
    assert code == 2
    assert row["verdict"] == "unreadable"


def test_recorded_answers_are_replayed_and_their_end_is_unreadable(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"text": "<Analysis>Bad.</Analysis><Judgment>unsafe</Judgment>"}))
    guard = f"agentdog-1.5-coarse@recorded:{answers}"
    command = [sys.executable, "-m", "gelert.cli.main", "judge", str(LOG), str(LOG), "--guard", guard, "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert [json.loads(line)["verdict"] for line in out.stdout.splitlines()] == ["unsafe", "unreadable"]
    assert out.returncode == 2


def test_judging_through_an_endpoint_loads_no_torch(loopback: Loopback) -> None:
    loopback.script = [says("<Analysis>Fine.</Analysis><Judgment>safe</Judgment>")]
    code = (
        "import sys; sys.argv = ['gelert', 'judge', sys.argv[1], '--guard', sys.argv[2]]\n"
        "from gelert.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    guard = f"agentdog-1.5-coarse@{loopback.url}#coarse"
    out = subprocess.run([sys.executable, "-c", code, str(LOG), guard], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("safe")
    assert out.stderr.strip() == "False"


SAFE = "<Analysis>Fine.</Analysis><Judgment>safe</Judgment>"
UNSAFE = "<Analysis>Bad.</Analysis><Judgment>unsafe</Judgment>"
RUNS = [
    {
        "id": n,
        "label": n % 2,
        "contents": [[{"role": "user", "content": f"task {n}"}, {"role": "agent", "action": "{}"}]],
    }
    for n in range(5)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "set" / "runs.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, RUNS)))
    return path


def opened(server: Loopback, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gelert.cli.main", *map(str, words)]
    guard = ["--guard", f"agentdog-1.5-coarse@{server.url}#coarse"]
    return subprocess.Popen([*command, *guard], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_runs_are_judged_several_at_once_and_verdicts_are_printed_in_order_as_they_come(
    loopback: Loopback, data: Path
) -> None:
    together, seen = threading.Barrier(len(RUNS)), threading.Event()

    def behave(door: Door) -> None:
        together.wait(20)  # nobody is answered before all have come
        if b"task 1" in door.body:
            seen.wait(20)  # answered only after the first verdict has been read
        says(UNSAFE if b"task 1" in door.body or b"task 3" in door.body else SAFE)(door)

    loopback.script = [behave]
    with opened(loopback, "judge", data, "--json") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seen.set()
        rows = [json.loads(line) for line in [first, *process.stdout]]
    assert [row["verdict"] for row in rows] == ["safe", "unsafe", "safe", "unsafe", "safe"]
    assert [row["record"] for row in rows] == list(range(len(RUNS)))


def test_an_evaluation_that_is_interrupted_keeps_every_answer_that_was_under_way(
    loopback: Loopback, data: Path, tmp_path: Path
) -> None:
    come, interrupted = threading.Semaphore(0), threading.Event()

    def behave(door: Door) -> None:
        come.release()
        interrupted.wait(20)
        says(SAFE)(door)

    loopback.script = [behave]
    out = tmp_path / "out.jsonl"
    with opened(loopback, "eval", "--data", data, "--out", out, "--at-once", str(len(RUNS))) as process:
        for _ in RUNS:
            assert come.acquire(timeout=20)
        process.send_signal(signal.SIGINT)
        interrupted.set()
        assert process.stderr is not None
        assert "stopped; finished records are kept" in process.stderr.read()
    assert process.returncode == 130
    assert len(out.read_text().splitlines()) == len(RUNS)
