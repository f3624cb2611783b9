"""``gelert train rl-guard`` as a user types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gelert.cli.train import command
from gelert.core.errors import InputError, MissingError
from gelert.core.taxonomy import Axis
from gelert.core.trajectory import Role
from tests.forge.rl import GOLD, item, taught

pytest.importorskip("trl")

RECIPE = """
questions = 2
group = 2
prompt_tokens = 1200
answer_tokens = 8
folds = 2
held_out = 1

[engine]
answers_at_once = 4
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, a recipe and a model."""
    folder = tmp_path_factory.mktemp("rl")
    (folder / "runs").mkdir()
    rows = [record(number) for number in range(4)]
    (folder / "runs" / "test.json").write_text(json.dumps(rows))
    (folder / "recipe.toml").write_text(RECIPE)
    taught(folder / "taught", steps=10)
    return folder


def record(number: int) -> dict[str, object]:
    """A run as ATBench has it."""
    turns: list[dict[str, object]] = []
    for step in item(number, said=f"Pay bill {number}.").example.trajectory.steps:
        said = {"name": "send", "arguments": {}} if step.calls else {"response": step.text}
        turn = {"action": json.dumps(said)} if step.role is Role.AGENT else {"content": step.text}
        turns.append({"role": "agent" if step.role is Role.AGENT else "user", **turn})
    labels = {axis.value: GOLD.on(axis) for axis in Axis}
    return {"id": number, "tool_used": [], "contents": [turns], "label": 1, "reason": "", **labels}


def run(work: Path, *words: str) -> Result:
    fixed = ["rl-guard", "--data", str(work / "runs"), "--model", str(work / "taught")]
    return CliRunner().invoke(command, [*fixed, *words], catch_exceptions=False)


def test_a_run_prints_what_was_held_out_before_and_after(work: Path) -> None:
    out = work / "table"
    told = run(work, "--out", str(out), "--recipe", str(work / "recipe.toml"), "--steps", "1")
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("1 steps on 2 unsafe runs; 1 held out; 0 shortened to fit; 0 safe ones passed over\n")
    assert "| failure_mode | 1.000 | 0." in told.stdout
    assert told.stderr.endswith(f"wrote {out / 'model'}\n")


def test_the_same_line_goes_on_and_json_has_every_figure(work: Path) -> None:
    out = work / "json"
    for steps in (1, 2):
        told = run(work, "--out", str(out), "--recipe", str(work / "recipe.toml"), "--steps", str(steps), "--json")
        assert json.loads(told.stdout)["steps"] == steps
    assert json.loads(told.stdout)["after"].keys() == {"accuracy", "over_labelled", "in_form"}


def test_a_wrong_recipe_is_refused_before_anything_is_made(work: Path) -> None:
    (work / "wrong.toml").write_text("group = 1")
    with pytest.raises(InputError, match="group: "):
        run(work, "--out", str(work / "wrong"), "--recipe", str(work / "wrong.toml"))
    assert not (work / "wrong").exists()


def test_data_without_unsafe_runs_are_refused(work: Path) -> None:
    (work / "safe").mkdir()
    (work / "safe" / "test.json").write_text(json.dumps([{**record(0), "label": 0}]))
    with pytest.raises(InputError, match="expected labelled unsafe runs, got none"):
        CliRunner().invoke(
            command,
            ["rl-guard", "--data", str(work / "safe"), "--model", "x", "--out", str(work / "none")],
            catch_exceptions=False,
        )


def test_a_model_that_is_not_here_says_how_to_get_one(work: Path) -> None:
    with pytest.raises(MissingError, match="no such folder"):
        CliRunner().invoke(
            command,
            ["rl-guard", "--data", str(work / "runs"), "--model", "./none", "--out", str(work / "none")],
            catch_exceptions=False,
        )


def test_the_help_names_every_option() -> None:
    told = CliRunner().invoke(command, ["rl-guard", "--help"]).output
    assert all(word in told for word in ("--data", "--model", "--out", "--recipe", "--steps", "--json", "accelerate"))
