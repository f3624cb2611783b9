"""Recipes of agents that learn by reward: what is published is the default, and every fault of a file is named."""

from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.forge.agent_rl_recipe import Episodes, Recipe
from gelert.forge.agent_train_recipe import Recipe as Shown

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
EXAMPLES = [*sorted(RECIPES.glob("agent_rl*.toml")), RECIPES / "arms" / "rl.toml"]
ARMS = [one for one in sorted((RECIPES / "arms").glob("*.toml")) if one.stem != "rl"]


def test_the_defaults_are_the_published_values() -> None:
    played, recipe = Episodes(), Recipe(model="m", episodes=Episodes())
    assert (played.tasks, played.group, played.turns, played.temperature) == (33, 8, 15, 0.5)
    assert (played.message_tokens, played.most_tokens) == (1536, 8192)
    assert (recipe.learning_rate, recipe.level, recipe.steps, recipe.passes) == (5e-7, "sequence", 400, 1)
    assert (played.rules.turns, played.rules.tokens, played.rules.malformed) == (15, 1536, 2)


def test_every_fault_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('level = "word"\nfoo = 3\n[episodes]\ngroup = 1\n[engine]\nvllm = "maybe"\n')
    with pytest.raises(InputError) as fault:
        Recipe.load(path)
    names = ("model:", "level:", "foo:", "episodes.group:", "engine.vllm:", "recipe.toml")
    assert all(name in str(fault.value) for name in names)


def test_a_model_may_be_given_instead_of_the_recipes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[episodes]\n")
    assert Recipe.load(path, "mine").model == "mine"
    assert "mine" not in str(Recipe.load(path, "mine").noted())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_recipes_that_spread_evenly(path: Path) -> None:
    recipe = Recipe.load(path)
    devices = 4 if "gpu" in path.stem else 1
    assert recipe.episodes.tasks * recipe.episodes.group % (recipe.engine.at_once * devices) == 0
    assert recipe.save_every % recipe.passes == 0


@pytest.mark.parametrize("path", ARMS, ids=lambda path: path.stem)
def test_the_arms_learn_the_same_worlds_in_the_same_form(path: Path) -> None:
    recipe = Shown.load(path, None if path.stem == "new" else "arms/base/model")
    other = Recipe.load(RECIPES / "arms" / "rl.toml")
    assert (recipe.form, recipe.demonstrations.worlds) == (other.form, other.episodes.worlds)
    assert recipe.demonstrations.every_attack == (path.stem in ("new", "base"))
    assert recipe.batch % recipe.engine.at_once == 0


def test_all_arms_are_there() -> None:
    assert [path.stem for path in ARMS] == ["base", "filtered", "new", "unfiltered", "utility"]
