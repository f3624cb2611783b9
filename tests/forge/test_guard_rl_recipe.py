"""Recipes on disk: what is published is the default, and every fault of a file is named."""

from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.forge.guard_rl_recipe import Recipe

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("guard_rl*.toml"))


def test_the_defaults_are_the_published_values() -> None:
    recipe = Recipe()
    assert (recipe.group, recipe.learning_rate, recipe.kl, recipe.clip_low, recipe.clip_high) == (
        8,
        1e-6,
        0.001,
        0.2,
        0.28,
    )
    assert recipe.weights.model_dump() == {"failure_mode": 0.3, "real_world_harm": 0.4, "risk_source": 0.3}


def test_every_fault_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('group = 1\nkl = "much"\nfoo = 3\n[engine]\nvllm = "maybe"\n')
    with pytest.raises(InputError) as fault:
        Recipe.load(path)
    assert all(name in str(fault.value) for name in ("group:", "kl:", "foo:", "engine.vllm:", "recipe.toml"))


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("group = = 1")
    with pytest.raises(InputError, match="expected a recipe in TOML"):
        Recipe.load(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_recipes_that_spread_evenly(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.answers % recipe.engine.answers_at_once == 0


def test_both_examples_are_there() -> None:
    assert [path.stem for path in EXAMPLES] == ["guard_rl", "guard_rl_gpu"]
