"""``gelert memory`` from end to end on a tiny model in a folder."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from gelert.cli.main import app

QWEN = Path(__file__).parent.parent / "data" / "qwen_law.csv"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["memory", *map(str, words)])


def swept(folder: Path, out: Path, *more: object) -> Result:
    return run(
        *("sweep", "--out", out, "--model", folder, "--block", 1, "--steps", 25, "--learning-rate", 0.02),
        *("--ranks", "1,2,4", "--lengths", "20,30,40", *more),
    )


def test_a_sweep_its_law_its_recall_and_a_plan(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    first = swept(folder, out)
    assert first.exit_code == 0, first.output
    assert "0 of" in first.output
    again = swept(folder, out, "--json")
    rows = [json.loads(line) for line in again.output.splitlines() if line.startswith("{")]
    assert len(rows) == 9
    found = run("recall", out, "--json", "--plot", tmp_path / "figures")
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["cells"] == 9
    laws = run("law", out, "--json", "--resamples", 5, "--plot", tmp_path / "figures")
    assert laws.exit_code == 0, laws.output
    assert "as measured" in json.loads(laws.stdout)["fits"]
    for name in ("law", "phase", "along", "by_rank"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
        assert len((tmp_path / "figures" / f"{name}.csv").read_text().splitlines()) > 1
    text = tmp_path / "text.txt"
    text.write_text("a short text")
    planned = run("plan", text, "--sweep", out, "--json")
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.output)["tokens"] == len(b"a short text") + 1


def test_the_published_law_is_printed_with_its_intervals() -> None:
    found = run("law", QWEN, "--resamples", 20)
    assert found.exit_code == 0
    assert "alpha 0.663 [" in found.output


def test_facts_are_written_and_checked(folder: Path, tmp_path: Path) -> None:
    facts, out = tmp_path / "facts.jsonl", tmp_path / "adapter"
    facts.write_text('{"query": "Ada:", "target": "71"}\n{"query": "Uma:", "target": "6"}\n')
    wrote = run("write", facts, "--out", out, "--model", folder, "--blocks", 3, "--until", 0.4, "--json")
    assert wrote.exit_code == 0, wrote.output
    seen = run("check", facts, "--adapter", out, "--model", folder, "--decode", 2)
    assert seen.exit_code == 0, seen.output
    assert "recalled 2 of 2 texts" in seen.output
    assert "decoded 2: 0 unlike" in seen.output
    facts.write_text('{"query": "Ada:", "target": "72"}\n')
    missing = run("check", facts, "--adapter", out, "--model", folder)
    assert missing.exit_code == 1
    assert "not recalled: Ada:" in missing.output


def test_a_corpus_is_printed_as_facts() -> None:
    rows = [json.loads(line) for line in run("corpus", "phone-book", "--count", 3).output.splitlines()]
    assert [set(row) for row in rows] == [{"query", "target"}] * 3
    learned = run("corpus", "linear-rule", "--count", 5).output
    assert learned != run("corpus", "linear-rule", "--count", 5, "--held-out").output


def test_what_is_asked_wrongly_is_said(folder: Path, tmp_path: Path) -> None:
    assert "whole numbers" in run("sweep", "--ranks", "x", "--lengths", "1", "--out", tmp_path).output
    empty = run("recall", tmp_path)
    assert "finished cells" in str(empty.exception)
    none = swept(folder, tmp_path / "s", "--corpus", "text")
    assert "--text FILE" in str(none.exception)
