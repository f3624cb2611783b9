"""``gelert train sft-guard`` from labelled files to a guard that ``gelert judge`` takes, on the tiny model."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gelert.cli.data import command as data
from gelert.cli.judge import command as judge
from gelert.cli.train import command as train

OPTIONS = ["--epochs", "1", "--seeds", "2", "--rank", "2", "--max-tokens", "1024", "--trunk", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds")
    result = CliRunner().invoke(data, ["synthesise", "--n", "16", "--seed", "2", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("rule", ["nll", "memft-ot"])
def test_a_guard_is_trained_and_judges(runs: Path, folder: Path, tmp_path: Path, rule: str) -> None:
    out = tmp_path / "guard"
    words = ["sft-guard", "--data", str(runs), "--out", str(out), "--rule", rule, "--model", str(folder), *OPTIONS]
    result = CliRunner().invoke(train, words)
    assert result.exit_code == 0, result.output
    assert "epoch 1" in result.output
    assert not (out / "prefixes").exists()
    log = tmp_path / "run.json"
    log.write_text(json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]))
    judged = CliRunner().invoke(judge, ["--guard", str(out), "--json", "--quiet", str(log)])
    assert judged.exit_code == 0, judged.output
    row = json.loads(judged.stdout)
    assert row["verdict"] in {"safe", "unsafe"}


def test_the_same_line_goes_on_where_it_was_and_json_is_a_line_an_epoch(
    runs: Path, folder: Path, tmp_path: Path
) -> None:
    words = ["sft-guard", "--data", str(runs), "--out", str(tmp_path), "--model", str(folder), *OPTIONS, "--json"]
    first = CliRunner().invoke(train, words)
    assert first.exit_code == 0, first.output
    *epochs, card = [json.loads(line) for line in first.stdout.splitlines()]
    assert [epoch["number"] for epoch in epochs] == [0, 1]
    assert len(epochs[1]["scores"]) == 2
    assert card["kind"] == "adapter"
    again = CliRunner().invoke(train, words)
    assert [json.loads(line)["name"] for line in again.stdout.splitlines()] == ["own"]


def test_too_few_groups_are_refused(runs: Path, tmp_path: Path, folder: Path) -> None:
    kept = (runs / "records.jsonl").read_text().splitlines()[:1]
    small = tmp_path / "small"
    small.mkdir()
    (small / "records.jsonl").write_text("\n".join(kept) + "\n")
    words = ["sft-guard", "--data", str(small), "--out", str(tmp_path / "g"), "--model", str(folder), *OPTIONS]
    result = CliRunner().invoke(train, words)
    assert result.exit_code != 0
    assert "both sides" in str(result.exception)
