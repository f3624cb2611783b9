"""``gelert eval-agent`` from the command line."""

import json
from pathlib import Path

from click.testing import CliRunner

from gelert.cli.eval_agent import command


def test_agents_are_compared_and_drawn_and_a_second_run_plays_nothing_new(tmp_path: Path) -> None:
    words = ["oracle", "refuser", "--world", "mail", "--count", "6", "--out", str(tmp_path), "--plot", "--json"]
    first = CliRunner().invoke(command, words, catch_exceptions=False)
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert [row["agent"] for row in rows] == ["oracle", "refuser"]
    assert rows[0]["figures"]["utility, clean"]["value"] == 1.0
    assert rows[1]["figures"]["over-refusal"]["value"] == 1.0
    assert (tmp_path / "agents.png").stat().st_size > 5_000
    kept = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    assert CliRunner().invoke(command, words, catch_exceptions=False).stdout == first.stdout
    assert {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == kept


def test_a_model_that_does_not_answer_is_a_fault_and_not_a_figure(tmp_path: Path) -> None:
    words = ["http://127.0.0.1:9/v1#nobody", "--world", "mail", "--count", "1", "--out", str(tmp_path)]
    found = CliRunner().invoke(command, words)
    assert found.exit_code != 0
    assert "expected an answer of the agent's model" in found.output
    assert not list(tmp_path.glob("*.jsonl"))
