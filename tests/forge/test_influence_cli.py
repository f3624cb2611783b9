"""`gelert data influence` and `gelert data purify` on the real model, from labelled files to choices on disk."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gelert.cli.data_influence import influence, purify
from gelert.core.errors import InputError
from gelert.core.trajectory import Role
from gelert.evals.benches import Labelled
from gelert.forge.purify import Fate, read
from gelert.forge.twins import twins

pytest.importorskip("sklearn")
pytestmark = [pytest.mark.real_model, pytest.mark.usefixtures("real_model")]


def record(item: Labelled) -> dict[str, object]:
    messages: list[dict[str, object]] = []
    for step in item.example.trajectory.steps:
        calls = "".join(f"\n{call.name} {call.arguments}" for call in step.calls)
        messages.append({"role": "assistant" if step.role is Role.AGENT else "user", "content": step.text + calls})
    return {"messages": messages, "label": int(item.unsafe)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty candidates, one of them with the other label, and four targets."""
    folder = tmp_path_factory.mktemp("data")
    rows = [record(item) for item in twins(1)]
    for name, part in (("pool", rows[:20]), ("targets", rows[20:])):
        (folder / name).mkdir()
        (folder / name / "runs.jsonl").write_text("\n".join(map(json.dumps, part)))
    return folder


def run(command: str, data: Path, *words: str) -> Result:
    named = {"influence": influence, "purify": purify}[command]
    fixed = [str(data / "pool"), "--targets", str(data / "targets"), "--features", str(data / "cache")]
    return CliRunner().invoke(named, [*fixed, *words], catch_exceptions=False)


def test_a_pool_is_purified_to_its_budget_with_a_reason_for_every_run(data: Path) -> None:
    out = data / "new" / "chosen.jsonl"
    told = run("purify", data, "--budget", "6", "--out", str(out), "--json")
    assert told.exit_code == 0, told.output
    choices = read(out)
    kept = [c for c in choices if c.fate is Fate.KEEP]
    assert len(choices) == 20
    assert json.loads(told.stdout)["keep"] == len(kept) <= 6
    assert {c.stratum.split(",")[0] for c in kept} == {"safe", "unsafe"}
    assert all(name.startswith("targets/runs.jsonl#") for c in choices for name in c.nearest)


def test_scores_name_every_run_best_first_and_the_table_every_method(data: Path) -> None:
    ranked = json.loads(run("influence", data, "--method", "prism", "--json").stdout)
    assert len({row["key"] for row in ranked}) == 20
    assert [row["score"] for row in ranked] == sorted((row["score"] for row in ranked), reverse=True)
    shown = run("influence", data, "--method", "prism", "--top", "2").stdout.splitlines()
    assert [line.split()[1] for line in shown] == [ranked[i]["key"] for i in (0, 1, 18, 19)]
    rows = {row["method"]: row for row in json.loads(run("influence", data, "--validate", "--json").stdout)}
    assert len(rows) == 12
    assert rows["exact"]["lds"]["value"] > max(0.5, rows["random"]["lds"]["value"])


def test_targets_are_taken_out_of_the_pool(data: Path) -> None:
    told = CliRunner().invoke(
        influence, [str(data), "--targets", str(data / "targets"), "--features", str(data / "cache"), "--json"]
    )
    assert "left out  4 runs of the pool that are targets too" in told.stderr
    assert len(json.loads(told.stdout)) == 20


def test_an_unknown_method_is_refused_before_anything_is_read(data: Path) -> None:
    with pytest.raises(InputError, match="expected one of exact, prism"):
        run("purify", data, "--budget", "6", "--out", str(data / "x"), "--method", "magic")
