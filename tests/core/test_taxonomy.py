"""The taxonomy: counts of the paper, aliases of every release, own leaves."""

from pathlib import Path

import pytest

from gelert.core.errors import TaxonomyError
from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, builtin, fold, selectable, unsplit
from gelert.core.trajectory import Setting

OWN = """
[[leaf]]
axis = "risk_source"
slug = "night_shift_confusion"
name = "Night Shift Confusion"
family = "Ours"
meaning = "Nobody was awake."
"""


@pytest.mark.parametrize(
    ("axis", "total", "base"), [("risk_source", 15, 8), ("failure_mode", 21, 14), ("real_world_harm", 11, 10)]
)
def test_the_published_counts_hold(axis: str, total: int, base: int) -> None:
    leaves = builtin().on(Axis(axis))
    assert len(selectable(leaves)) == total
    assert len(selectable(builtin().on(Axis(axis), Setting.GENERAL))) == base


@pytest.mark.parametrize("setting", list(Setting))
def test_a_setting_sees_the_general_leaves_and_its_own(setting: Setting) -> None:
    seen = {leaf.setting for leaf in builtin().on(Axis.RISK_SOURCE, setting)}
    assert seen == {Setting.GENERAL, setting}


def test_every_spelling_names_one_leaf() -> None:
    checked = 0
    for leaf in builtin().leaves:
        for spelling in (leaf.slug, leaf.name, *leaf.aliases):
            assert builtin().resolve(leaf.axis, spelling) is leaf
            assert builtin().resolve(leaf.axis, f"  {spelling.upper()}. ") is leaf
            checked += 1
    assert checked > 100


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Inherent Agent/LLM Failures", "inherent_agent_failures"),
        ("inherent_agent_or_llm_failures", "inherent_agent_failures"),
        ("Unreliable or Mis-information", "unreliable_or_misinformation"),
    ],
)
def test_the_releases_other_spellings_are_known(text: str, slug: str) -> None:
    leaf = builtin().resolve(Axis.RISK_SOURCE, text)
    assert leaf is not None
    assert leaf.slug == slug


def test_an_unknown_spelling_names_nothing() -> None:
    assert builtin().resolve(Axis.HARM, "general unpleasantness") is None


def test_split_and_unsplit_tool_use_compare_equal() -> None:
    split = unsplit(Diagnosis(failure_mode="choosing_malicious_tool"))
    assert split == Diagnosis(failure_mode="improper_tool_use")


def test_users_add_leaves(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    leaf = Taxonomy.load(path).resolve(Axis.RISK_SOURCE, "night shift confusion")
    assert leaf is not None
    assert leaf.meaning == "Nobody was awake."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("risk_source", "weather"), "expected an axis"),
        (("night_shift_confusion", "Night Shift"), "snake_case"),
        (('name = "Night Shift Confusion"', 'name = "Direct Prompt Injection"'), "names both"),
        (('family = "Ours"', 'colour = "red"'), "colour"),
        (('meaning = "Nobody was awake."', ""), "'meaning'"),
        (('meaning = "Nobody was awake."', 'meaning = "x"\nsetting = "moon"'), "moon"),
        (("[[leaf]]", "[leaf]"), "[[leaf]]"),
        (("[[leaf]]", "[[leaf]"), "expected TOML"),
    ],
)
def test_a_wrong_leaf_is_refused_with_its_reason(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(*change))
    with pytest.raises(TaxonomyError, match=message.replace("[", r"\[")):
        Taxonomy.load(path)


def test_folding_ignores_case_and_punctuation() -> None:
    assert fold("Cross-Channel / Recipient  Misrouting") == "cross channel recipient misrouting"
