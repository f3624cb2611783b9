"""Dataset cards: counts that add up, floors with intervals, every leaf listed, a picture that is one."""

import json
from pathlib import Path

import pytest

from gelert.core.taxonomy import Axis, builtin, selectable
from gelert.forge.card import DataCard, data_card, markdown
from gelert.forge.card_plot import plot
from gelert.forge.synthesise_disk import Config, begin_folder, config_of, fill

RUNS = 160


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("card")
    list(fill(begin_folder(made, Config(n=RUNS, seed=2))))
    return made


@pytest.fixture(scope="module")
def card(folder: Path) -> DataCard:
    return data_card(folder, most=60)


def test_every_count_adds_up_to_the_runs(card: DataCard) -> None:
    assert (card.runs, card.refused) == (RUNS, 0)
    assert len(card.counts) == 8
    assert {sum(counts.values()) for counts in card.counts.values()} == {RUNS}
    assert {sum(counts.values()) for counts in (*card.leaves.values(), card.tuples)} == {RUNS // 2}


def test_every_leaf_is_listed_and_met(card: DataCard) -> None:
    for axis in Axis:
        assert set(card.leaves[axis.value]) == {leaf.slug for leaf in selectable(builtin().on(axis))}
        assert min(card.leaves[axis.value].values()) > 0


def test_floors_stand_with_intervals_and_what_is_met_tells_nothing(card: DataCard) -> None:
    assert [one.rule for one in card.floors] == ["always unsafe", "turn count", "word count"]
    assert card.floors[0].accuracy[0] == 0.5
    assert all(one.accuracy[1] <= one.accuracy[0] <= one.accuracy[2] for one in card.floors)
    assert set(card.unsafe_by_entry.values()) == {0.5}
    assert card.floor_runs == 60


def test_lengths_rise_with_the_quantile(card: DataCard) -> None:
    for lengths in (card.steps, card.words):
        assert list(lengths.values()) == sorted(lengths.values())
        assert len(lengths) == 6


def test_the_card_is_markdown_and_json(card: DataCard, folder: Path) -> None:
    text = markdown(card, config_of(folder))
    assert f"{RUNS} runs" in text
    assert "| word count |" in text
    assert all(slug in text for counts in card.leaves.values() for slug in counts)
    assert json.loads(json.dumps(card.row()))["runs"] == RUNS


def test_the_picture_is_a_png_of_all_panels(card: DataCard, tmp_path: Path) -> None:
    plot(card, tmp_path / "card.png")
    found = (tmp_path / "card.png").read_bytes()
    assert found.startswith(b"\x89PNG")
    assert len(found) > 20_000
