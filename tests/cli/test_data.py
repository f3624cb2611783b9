"""``gelert data``: plan, make, stop and go on, check, describe; and what it makes is taken by other commands."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gelert.cli.data import command
from gelert.cli.evaluate import command as evaluate
from gelert.core.errors import InputError
from gelert.core.trajectory import Role
from gelert.evals.benches import RECORDS, load_labelled
from tests.loopback import Loopback, loopback, says

__all__ = ["loopback"]


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words), catch_exceptions=False)


def made(folder: Path, *words: str) -> dict[str, Any]:
    out = run("synthesise", "--n", "20", "--out", str(folder), "--world", "shop", "--json", *words)
    assert out.exit_code == 0, out.output
    return json.loads(out.stdout)


def test_a_plan_is_shown_with_its_coverage() -> None:
    out = run("sample", "--n", "300")
    assert "unsafe_share_attacked: 0.5" in out.stdout
    assert "leaves_missing: none" in out.stdout
    found = json.loads(run("sample", "--n", "30", "--setting", "codex", "--json").stdout)
    assert found["settings"] == {"codex": 30}
    assert len(found["items"]) == 30


def test_runs_are_made_once_and_what_was_cut_is_made_again(tmp_path: Path) -> None:
    assert made(tmp_path)["made"] == 20
    whole = (tmp_path / RECORDS).read_bytes()
    assert made(tmp_path) == {"runs": 20, "kept": 20, "made": 0, "asked": 0, "refused": 0, "failed": 0}
    (tmp_path / RECORDS).write_bytes(whole[: len(whole) // 2])
    out = run("synthesise", "--n", "20", "--out", str(tmp_path), "--world", "shop")
    assert "is not whole; it and those after it are made again" in out.stderr
    assert (tmp_path / RECORDS).read_bytes() == whole


def test_another_seed_does_not_fill_the_same_folder(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(InputError, match="choose another folder"):
        made(tmp_path, "--seed", "9")


def test_a_rewriter_needs_an_address_and_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="URL#MODEL"):
        made(tmp_path, "--rewrite", "http://127.0.0.1:1/v1")


def test_a_model_behind_an_endpoint_rewrites_and_what_it_invents_is_counted(tmp_path: Path, loopback: Loopback) -> None:
    loopback.script = [says("It cost 987654 at the counter.")]
    told = made(tmp_path, "--rewrite", f"{loopback.url}#writer")
    assert told["made"] == 20
    assert told["refused"] == told["asked"] == len(loopback.bodies) > 20
    assert json.loads((tmp_path / "config.json").read_text())["rewrite"].endswith("#writer")


def test_a_check_prints_the_pass_rate_and_names_what_leaks(tmp_path: Path) -> None:
    folder, bench = tmp_path / "made", tmp_path / "bench.json"
    made(folder)
    found = json.loads(run("check", str(folder), "--json").stdout)
    assert (found["runs"], found["pass_rate"], found["faults"]) == (20, 1.0, [])
    row = json.loads((folder / RECORDS).read_text().splitlines()[0])
    bench.write_text(json.dumps(row["data"]["trajectory"]))
    out = run("check", str(folder), "--against", str(bench))
    assert "refused  run 0 (leak)" in out.stderr
    assert "near_duplicate_bound: 0.9" in out.stdout
    assert len(load_labelled([folder]).labelled) < 20


def test_a_card_is_written_as_markdown_json_and_picture(tmp_path: Path) -> None:
    made(tmp_path)
    out = run("card", str(tmp_path), "--plot", "--json")
    found = json.loads(out.stdout)
    assert found["runs"] == 20
    assert found["config"]["n"] == 20
    assert {"card.md", "card.json", "card.png"} <= {path.name for path in tmp_path.iterdir()}
    assert len(load_labelled([tmp_path]).labelled) == 20


def recorded(path: Path, answers: int) -> str:
    """A guard that replays answers: each run is unsafe."""
    line = json.dumps({"text": "<Analysis>\n1. x\n</Analysis>\n<Judgment> unsafe </Judgment>"})
    path.write_text("\n".join([line] * answers))
    return f"agentdog-1.5-coarse@recorded:{path}"


def test_a_judges_agreement_is_told_with_its_name(tmp_path: Path) -> None:
    made(tmp_path / "made")
    guard = recorded(tmp_path / "answers.jsonl", 20)
    found = json.loads(run("check", str(tmp_path / "made"), "--judge", guard, "--judged", "20", "--json").stdout)
    assert found["judge"]["runs"] == 20
    assert "answers.jsonl" in found["judge"]["guard"]
    assert found["judge"]["agreement"].startswith("0.500")


def test_eval_takes_the_folder_as_a_source_of_labelled_runs(tmp_path: Path) -> None:
    made(tmp_path / "made")
    guard = recorded(tmp_path / "answers.jsonl", 20)
    words = ["--guard", guard, "--data", str(tmp_path / "made"), "--draws", "20", "--json"]
    found = json.loads(CliRunner().invoke(evaluate, words, catch_exceptions=False).stdout)
    assert list(found["sources"]) == ["worlds"]
    assert found["sources"]["worlds"]["runs"] == 20
    assert found["sources"]["worlds"]["figures"]["accuracy"][0] == 0.5


def test_the_step_that_failed_is_one_of_the_agents(tmp_path: Path) -> None:
    made(tmp_path / "made")
    runs = load_labelled([tmp_path / "made"]).labelled
    for one in runs:
        assert (one.gold.failed is not None) == one.unsafe
        if one.gold.failed is not None:
            assert one.example.trajectory.steps[one.gold.failed].role is Role.AGENT


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gelert data synthesise"):
        run("check", str(tmp_path))
