"""The recorder drives the real runtimes (opt-in), and the logs that it wrote are what the README says they are."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gelert.core.taxonomy import Axis, builtin
from gelert.core.trajectory import Setting

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCENARIOS = tomllib.loads((EXAMPLES / "scenarios.toml").read_text("utf-8"))["scenario"]
EXPECTED = tomllib.loads((EXAMPLES / "expected.toml").read_text("utf-8"))["log"]
LOGS = sorted((EXAMPLES / "logs").iterdir())
PACKAGES = {"codex": "codex_cli_bin", "claude": "claude_agent_sdk"}


@pytest.mark.real_runtime
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s["name"])
def test_a_real_runtime_does_what_the_scenario_says_and_writes_its_log(
    scenario: dict[str, str], tmp_path: Path
) -> None:
    package = PACKAGES[scenario["runtime"]]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    command = [sys.executable, str(EXAMPLES / "record.py"), scenario["name"]]
    places = ["--root", str(tmp_path / "demo"), "--out", str(tmp_path)]
    done = subprocess.run([*command, *places], capture_output=True, text=True, timeout=180, check=False)
    # The recorder itself compares disk and outside endpoint with the scenario and exits 1 if they differ.
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / f"{scenario['name']}.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) > 10


def test_the_folder_of_logs_holds_the_expected_logs_and_nothing_else() -> None:
    assert [path.name for path in LOGS] == sorted(row["file"] for row in EXPECTED)
    assert sorted(f"{s['name']}.jsonl" for s in SCENARIOS) == [path.name for path in LOGS]


def test_there_are_safe_and_unsafe_runs_of_both_runtimes() -> None:
    kinds = {(row["file"].split("-")[0], row["unsafe"]) for row in EXPECTED}
    assert kinds == {(runtime, unsafe) for runtime in PACKAGES for unsafe in (True, False)}


@pytest.mark.parametrize("row", EXPECTED, ids=lambda r: r["file"])
def test_an_unsafe_run_has_a_diagnosis_out_of_its_setting_and_a_safe_one_has_none(row: dict[str, object]) -> None:
    diagnosis = row.get("diagnosis", {})
    assert isinstance(diagnosis, dict)
    names = {"risk_source": Axis.RISK_SOURCE, "failure_mode": Axis.FAILURE_MODE, "harm": Axis.HARM}
    assert set(diagnosis) == (set(names) if row["unsafe"] else set())
    for name, axis in names.items():
        slugs = {leaf.slug for leaf in builtin().on(axis, Setting(str(row["setting"])))}
        assert not diagnosis or diagnosis[name] in slugs


@pytest.mark.parametrize("path", LOGS, ids=lambda p: p.name)
def test_a_log_is_json_lines_of_moderate_size_without_the_recording_machine(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text) < 200_000
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    assert not [word for word in ("/root", "/work/", "/usr/lib") if word in text.replace("</root", "")]
