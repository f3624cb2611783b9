"""What a recipe trains on: all but what purification drops, and nothing chosen by the source that is judged."""

from dataclasses import replace
from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.forge.assemble import Assembly, Gathered, gather, synthesise, worlds_folder
from gelert.forge.purify import Choice, Fate, kept, name_of
from gelert.forge.recipe import FitSection, GuardRecipe, PurifySection, WorldsSection
from gelert.forge.twins import twins
from gelert.forge.validate import left_out
from tests.forge.test_guard_head import examples, pool

RIDGE = FitSection(ridge=0.3)


def assembly(purify: PurifySection | None, *, turned: str = "") -> Assembly:
    """Sources a and b are data, c is offered; the labels of the source ``turned`` are the opposite."""
    whole = pool(40)
    whole = replace(whole, unsafe=whole.unsafe ^ (whole.source == turned))
    runs = tuple(examples(whole))
    gathered = Gathered(runs, frozenset("ab"), (), 0)
    return Assembly(GuardRecipe(purify=purify, fit=RIDGE), gathered, whole)


@pytest.mark.parametrize("method", ["greedy", "prism"])
def test_targets_stay_and_of_the_others_a_budget_is_kept(method: str) -> None:
    own = assembly(PurifySection(budget=10, method=method))
    source = own.pool.source[own.part()]
    assert (source != "c").sum() == 80
    assert 0 < (source == "c").sum() <= 10
    assert len(assembly(None).part()) == 120


def test_what_is_fitted_to_judge_a_source_does_not_know_its_labels() -> None:
    purify = PurifySection(budget=10)
    own, other = assembly(purify), assembly(purify, turned="a")
    assert own.part().tolist() != other.part().tolist()
    assert own.part("a").tolist() == other.part("a").tolist()
    assert (own.pool.source[own.part("a")] == "a").sum() == 40


def test_without_another_target_or_anything_offered_nothing_is_purified() -> None:
    own = assembly(PurifySection(budget=10, targets=("a",)))
    assert len(own.part("a")) == 120
    assert len(own.part("b")) < 120
    assert len(assembly(PurifySection(budget=10)).part("c")) == 120


def test_a_choice_is_made_once() -> None:
    own = assembly(PurifySection(budget=10))
    assert own.part("a") is own.part("a")


def test_every_source_is_measured_by_what_was_chosen_without_it() -> None:
    own = assembly(PurifySection(budget=10))
    found = own.measured()
    assert [(r.source, r.split) for r in found.verdict if r.judge == "guard"] == [
        (name, split) for split in ("in-source", "left out") for name in "abc"
    ]
    places, fit = own.part("a"), own.recipe.fit.design().recipe
    alone = left_out("a", [own.gathered.examples[i] for i in places], own.pool.take(places), fit)
    assert [row for row in found.verdict if (row.source, row.split) == ("a", "left out")] == alone
    assert len(found.axes) == 3


def test_runs_are_synthesised_once_and_stand_beside_twins_and_targets_must_leave_a_choice(tmp_path: Path) -> None:
    recipe = GuardRecipe(worlds=WorldsSection(runs=6), fit=FitSection(twins=1))
    folder = worlds_folder(recipe, tmp_path)
    assert list(synthesise(recipe, folder)) == [1, 2, 3, 4, 5, 6]
    assert list(synthesise(recipe, folder)) == []
    found = gather(recipe, folder)
    assert [e.source for e in found.examples] == ["worlds"] * 6 + ["twins"] * len(twins(1))
    for targets in (("nobody",), (), ("worlds",)):
        with pytest.raises(InputError, match=r"expected purify\.targets"):
            gather(recipe.model_copy(update={"purify": PurifySection(budget=1, targets=targets)}), folder)
    aimed = recipe.model_copy(update={"purify": PurifySection(budget=1, targets=("twins",))})
    assert gather(aimed, folder) == found


def test_other_worlds_have_another_folder_and_need_one(tmp_path: Path) -> None:
    recipe, other = (GuardRecipe(worlds=WorldsSection(runs=6, seed=seed)) for seed in (0, 1))
    assert worlds_folder(recipe, tmp_path) != worlds_folder(other, tmp_path)
    with pytest.raises(InputError, match="expected --features FOLDER"):
        worlds_folder(recipe, None)


def test_choices_leave_out_what_they_name_and_do_not_keep() -> None:
    runs = examples(pool(3))
    fates = [Fate.KEEP, Fate.DROP, Fate.SUSPECT]
    choices = [Choice(name_of(r), "safe", f, "", 0.0, None, ()) for r, f in zip(runs, fates, strict=False)]
    assert kept(runs, choices, "kept.jsonl") == [runs[0], *runs[3:]]
    with pytest.raises(InputError, match=r"got none of them by name \(kept.jsonl\)"):
        kept(runs[3:], choices, "kept.jsonl")
    with pytest.raises(InputError, match="expected one run of each name that is chosen, got 2"):
        kept([*runs, runs[0]], choices, "kept.jsonl")
