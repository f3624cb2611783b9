"""Recipes of agents on disk: every fault of a file is named, and the examples are whole."""

from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.forge.agent_train_recipe import Recipe

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("agent_sft*.toml"))
LEAST = 'model = "smollm2-135m"\nsteps = 1\n[demonstrations]\n'


def load(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return Recipe.load(path)


def test_every_fault_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as fault:
        load(tmp_path, 'steps = 0\nform = "xml"\nfoo = 3\n[demonstrations]\nkeep = "some"\n[engine]\nat_once = "all"\n')
    names = ("steps:", "form:", "foo:", "demonstrations.keep:", "engine.at_once:", "recipe.toml")
    assert all(name in str(fault.value) for name in names)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a recipe in TOML"):
        load(tmp_path, "steps = = 1")


@pytest.mark.parametrize("shown", ["", 'count = 3\nfiles = ["a.jsonl"]\n'])
def test_demonstrations_come_from_one_place(tmp_path: Path, shown: str) -> None:
    with pytest.raises(InputError, match="got both or none"):
        load(tmp_path, LEAST + shown)


@pytest.mark.parametrize("more", ["", "[policy]\n"], ids=["both", "none"])
def test_a_model_is_named_or_made(tmp_path: Path, more: str) -> None:
    text = LEAST if more else LEAST.removeprefix('model = "smollm2-135m"\n')
    with pytest.raises(InputError, match="either a model or the table policy"):
        load(tmp_path, f"{text}count = 3\n{more}")


def test_files_are_beside_the_recipe_and_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected files that are there"):
        load(tmp_path, LEAST + 'files = ["a.jsonl"]\n')
    (tmp_path / "a.jsonl").touch()
    recipe = load(tmp_path, LEAST + 'files = ["a.jsonl"]\n')
    assert recipe.demonstrations.files == (tmp_path / "a.jsonl",)
    assert str(tmp_path) not in str(recipe.noted())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_recipes_that_spread_evenly(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.batch % recipe.engine.at_once == 0


def test_both_examples_are_there() -> None:
    assert [path.stem for path in EXAMPLES] == ["agent_sft", "agent_sft_gpu"]
