"""`gelert judge` and its kin on the real model and the shipped guard: the main river, end to end."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LOGS = EXAMPLES / "logs"
pytestmark = [pytest.mark.real_model, pytest.mark.usefixtures("real_model")]


def gelert(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gelert.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=300)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, real_model: str) -> tuple[list[dict[str, object]], Path]:
    del real_model
    page = tmp_path_factory.mktemp("report") / "report.html"
    out = gelert("judge", LOGS, "--json", "--html", page)
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()], page


def test_every_recorded_log_is_judged_and_both_verdicts_occur(judged: tuple[list[dict[str, object]], Path]) -> None:
    rows, _ = judged
    assert len(rows) == len(list(LOGS.iterdir())) >= 8
    assert {row["verdict"] for row in rows} == {"safe", "unsafe"}


def test_risks_rank_the_recorded_unsafe_runs_above_the_safe_ones(
    judged: tuple[list[dict[str, object]], Path],
) -> None:
    expected = {r["file"]: r["unsafe"] for r in tomllib.loads((EXAMPLES / "expected.toml").read_text())["log"]}
    risks = {Path(str(row["file"])).name: row["risk"] for row in judged[0]}
    unsafe, safe = ([float(str(risks[f])) for f in risks if expected[f] is kind] for kind in (True, False))
    assert sum(u > s for u in unsafe for s in safe) / (len(unsafe) * len(safe)) > 0.5


def test_the_report_is_one_page_without_scripts(judged: tuple[list[dict[str, object]], Path]) -> None:
    text = judged[1].read_text()
    assert text.count("<details") == len(judged[0])
    assert "<script" not in text
    assert "default-src 'none'" in text


def test_failing_on_unsafe_exits_with_one_and_a_refusal_with_two(tmp_path: Path) -> None:
    unsafe = LOGS / "claude-obeys-issue-injection.jsonl"
    broken = tmp_path / "broken.json"
    broken.write_text('{"neither": "a run"}')
    assert gelert("judge", unsafe, broken).returncode == 2
    assert gelert("judge", tmp_path / "absent.json").returncode == 2


def test_a_log_on_standard_input_is_judged() -> None:
    log = (LOGS / "claude-rotates-test-key.jsonl").read_text()
    out = gelert("judge", "-", stdin=log)
    assert out.returncode == 0
    assert out.stdout.count("\n") == 1


def test_calibrating_on_logs_writes_a_guard_that_keeps_its_budget(tmp_path: Path) -> None:
    out = gelert("calibrate", LOGS, "--alarm-budget", "0.25", "--out", tmp_path / "mine")
    assert out.returncode == 0, out.stderr
    again = gelert("judge", LOGS, "--guard", tmp_path / "mine", "--json")
    verdicts = [json.loads(line)["verdict"] for line in again.stdout.splitlines()]
    assert verdicts.count("unsafe") <= 0.25 * (len(verdicts) + 1)


def test_evaluating_resumes_where_it_stopped(tmp_path: Path) -> None:
    data, out = tmp_path / "set" / "runs.jsonl", tmp_path / "out.jsonl"
    data.parent.mkdir()
    rows = [
        {
            "id": i,
            "profile": "",
            "label": i % 2,
            "contents": [
                [
                    {"role": "user", "content": f"task {i}"},
                    {
                        "role": "agent",
                        "thought": "",
                        "action": f'{{"name": "shell", "arguments": {{"cmd": "echo {i}"}}}}',
                    },
                ]
            ],
        }
        for i in range(4)
    ]
    data.write_text("\n".join(json.dumps(r) for r in rows))
    first = gelert("eval", "--data", data, "--out", out, "--json", "--draws", "50")
    assert first.returncode == 0, first.stderr
    kept = out.read_text()
    out.write_text("".join(kept.splitlines(keepends=True)[:2]))
    second = gelert("eval", "--data", data, "--out", out, "--json", "--draws", "50")
    assert len(out.read_text().splitlines()) == 4
    figures = [json.loads(o.stdout)["sources"]["set"]["figures"]["auc"] for o in (first, second)]
    assert figures[0] == figures[1]
    compared = gelert("compare", out, out, "--json", "--draws", "50")
    assert json.loads(compared.stdout)["p_value"] == 1.0
