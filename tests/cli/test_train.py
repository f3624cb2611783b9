"""``gelert train guard`` on a tiny model: flags and a recipe are one path, what a file drops is not trained on."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gelert.cli.data import command as data_command
from gelert.cli.train import guard
from gelert.core.errors import InputError
from gelert.evals.benches import load_labelled
from gelert.forge.purify import Choice, Fate, name_of, write
from gelert.forge.twins import twins
from gelert.guard.card import Card, load
from gelert.lm.model import tiny
from tests.forge.test_influence_cli import record

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with as many blocks as the default design reads, and room for its windows in bytes, in a folder."""
    path = tmp_path_factory.mktemp("tall")
    made = tiny(layers=14, width=16, dtype="float32")
    made.body.config.max_position_embeddings = 4096
    made.net.save_pretrained(path)
    made.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of twelve labelled runs, one that the worlds have made, and the cache of all tests."""
    folder = tmp_path_factory.mktemp("place")
    rows = [record(item) for item in twins(1)]
    for name, part in (("one", rows[:12]), ("two", rows[12:24])):
        (folder / name).mkdir()
        (folder / name / "runs.jsonl").write_text("\n".join(map(json.dumps, part)))
    words = ["synthesise", "--n", "4", "--world", "shop", "--out", str(folder / "made"), "--json"]
    assert CliRunner().invoke(data_command, words, catch_exceptions=False).exit_code == 0
    return folder


def train(place: Path, *words: str) -> Result:
    return CliRunner().invoke(guard, [*words, "--features", str(place / "cache")], catch_exceptions=False)


def card_of(folder: Path) -> Card:
    return load(folder)[0]


def test_what_the_worlds_made_is_a_source_like_any_other(place: Path, model: Path, tmp_path: Path) -> None:
    given = ["--data", str(place / "made"), "--data", str(place / "one"), "--model", str(model)]
    told = train(place, *given, "--twins", "0", "--no-validate", "--out", str(tmp_path / "card"))
    assert told.exit_code == 0, told.output
    assert card_of(tmp_path / "card").made["runs"] == "16 (one 12, worlds 4)"


def test_flags_and_a_recipe_that_says_the_same_make_the_same_guard(place: Path, model: Path, tmp_path: Path) -> None:
    flags = ["--data", str(place / "one"), "--model", str(model), "--ridge", "2.0", "--twins", "0", "--name", "mine"]
    train(place, *flags, "--no-validate", "--out", str(tmp_path / "flags"))
    text = 'name = "mine"\ndata.folders = ["one"]\nvalidate.on = false\n'
    (place / "same.toml").write_text(f'{text}fit = {{model = "{model}", ridge = 2.0, twins = 0}}')
    train(place, "--recipe", str(place / "same.toml"), "--out", str(tmp_path / "file"))
    assert card_of(tmp_path / "flags") == card_of(tmp_path / "file")


def test_runs_that_a_file_of_choices_drops_are_not_trained_on(place: Path, model: Path, tmp_path: Path) -> None:
    runs = load_labelled([place / "one"]).labelled
    fates = [Fate.KEEP] * 8 + [Fate.DROP] * 3 + [Fate.SUSPECT]
    write(
        tmp_path / "kept.jsonl",
        [Choice(name_of(r), "safe", f, "", 0.0, None, ()) for r, f in zip(runs, fates, strict=True)],
    )
    given = ["--data", str(place / "one"), "--data", str(place / "two"), "--model", str(model), "--twins", "0"]
    told = train(
        place, *given, "--choices", str(tmp_path / "kept.jsonl"), "--no-validate", "--out", str(tmp_path / "card")
    )
    assert "left out  4 runs" in told.stderr
    found = card_of(tmp_path / "card")
    assert found.made["runs"] == "20 (one 8, two 12)"
    assert found.made["choices"].startswith("kept.jsonl, SHA-256")


def test_a_recipe_goes_from_worlds_to_a_measured_card_and_again_to_the_same(
    place: Path, model: Path, tmp_path: Path
) -> None:
    text = f"""
    data.folders = ["one", "two"]
    worlds = {{runs = 6, seed = 1}}
    purify = {{budget = 4}}
    fit = {{model = "{model}", twins = 0}}
    """
    (place / "all.toml").write_text(text)
    told = train(place, "--recipe", str(place / "all.toml"), "--out", str(tmp_path / "first"), "--json")
    assert told.exit_code == 0, told.output
    assert {row["source"] for row in json.loads(told.stdout)["verdict"]} >= {"one", "two"}
    made = kept_in(place / "cache")
    (place / "again.toml").write_text(f"{text}\nvalidate.on = false")
    train(place, "--recipe", str(place / "again.toml"), "--out", str(tmp_path / "second"))
    assert kept_in(place / "cache") == made
    first, second = card_of(tmp_path / "first"), card_of(tmp_path / "second")
    assert (first.weights_sha256, first.calibration) == (second.weights_sha256, second.calibration)
    assert first.made["worlds"] == "6 runs synthesised, seed 1"
    assert first.made["purify"] == "at most 4 runs kept (greedy), targets all of the data"
    kept = int(first.made["runs"].split("worlds ")[1].rstrip(")"))
    assert 0 < kept <= 4
    assert first.made["runs"].startswith(f"{24 + kept} (one 12, two 12,")
    assert any(name.startswith("one, left out, guard") for name in first.figures)
    assert not second.figures


def kept_in(cache: Path) -> dict[str, int]:
    """When each file of features and of runs was written."""
    return {str(p): p.stat().st_mtime_ns for p in (*cache.rglob("*.npz"), *cache.rglob("records.jsonl"))}


def test_what_a_recipe_says_is_not_said_by_a_flag(place: Path) -> None:
    (place / "small.toml").write_text('data.folders = ["one"]')
    with pytest.raises(InputError, match="got both: --ridge, --seed"):
        train(place, "--recipe", str(place / "small.toml"), "--seed", "1", "--ridge", "2", "--validate-only")
    with pytest.raises(InputError, match=r"expected data\.folders or worlds\.runs"):
        train(place, "--validate-only")
    with pytest.raises(InputError, match="expected --out FOLDER"):
        train(place, "--data", str(place / "one"))
