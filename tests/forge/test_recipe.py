"""A recipe is read strictly: what is wrong is named by its field, and paths are those beside the file."""

from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.forge.make_guard import DEFAULT
from gelert.forge.recipe import GuardRecipe, PurifySection

EXAMPLE = Path(__file__).parents[2] / "examples/recipes/guard.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_the_example_is_a_recipe_whose_fit_is_the_default_one() -> None:
    found = GuardRecipe.load(EXAMPLE)
    assert found.fit.design() == DEFAULT
    assert found.purify is not None
    assert found.worlds is not None
    assert found.purify.budget < found.worlds.runs


def test_paths_are_taken_from_the_files_folder_or_absolute(tmp_path: Path) -> None:
    for name in ("logs", "more"):
        (tmp_path / "a" / name).mkdir(parents=True)
    found = GuardRecipe.load(written(tmp_path / "a", f'data.folders = ["logs", "{tmp_path}/a/more"]'))
    assert found.data.folders == (tmp_path / "a/logs", tmp_path / "a/more")
    assert found.words()["data"] == "logs, more"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("worlds.runs = 0", "worlds.runs: Input should be greater than or equal to 1"),
        ("worlds.runs = '9'", "worlds.runs: Input should be a valid integer"),
        ("worlds = {runs = 9, sede = 1}", "worlds.sede: Extra inputs"),
        ("purify = {budget = 5, method = 'magic'}", "purify.method: Value error, expected one of exact, prism"),
        ("purify.targets = ['a']", "purify.budget: Field required"),
        ("fit.ridge = -1.0", "fit.ridge: Input should be greater than 0"),
        ("validate.on = 1", "validate.on: Input should be a valid boolean"),
        ("validation.on = true\nfit.ridge = 0.0", "fit.ridge"),
        ("data.folders = ['nowhere']", "data.folders.0: "),
        ("worlds.runs = 9\ndata.choices = 'nowhere.jsonl'", "data.choices: "),
        ("name = 'x'", "expected data.folders or worlds.runs"),
        ("name = ", "expected a recipe in TOML"),
    ],
)
def test_what_is_wrong_is_named_by_field_and_file(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError) as refused:
        GuardRecipe.load(written(tmp_path, text))
    assert named in str(refused.value)
    assert "recipe.toml" in str(refused.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"worlds\.runs: .*; fit\.twins: "):
        GuardRecipe.load(written(tmp_path, "worlds.runs = 0\nfit.twins = -1"))


def test_the_card_is_told_the_recipe_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text("{}\n")
    text = "data.choices = 'kept.jsonl'\nworlds = {runs = 9, seed = 3}\npurify = {budget = 5, targets = ['a', 'b']}"
    told = GuardRecipe.load(written(tmp_path, text)).words()
    assert told["worlds"] == "9 runs synthesised, seed 3"
    assert told["purify"] == "at most 5 runs kept (greedy), targets a, b"
    assert told["choices"].startswith("kept.jsonl, SHA-256 ")
    assert str(tmp_path) not in str(told)


def test_a_greedy_choice_has_no_scorer_and_any_other_has() -> None:
    assert PurifySection(budget=1).scorer(0) is None
    assert PurifySection(budget=1, method="bm25").scorer(0) is not None
