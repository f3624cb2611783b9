"""Cards: what is written is read back; what was edited, truncated or made for another model is refused."""

from pathlib import Path

import pytest

from gelert.core.errors import CardError
from gelert.guard.card import CARD_FILE, WEIGHTS_FILE, default_card, load, save
from tests.guard.tiny import tiny_guard, window


def saved(folder: Path) -> Path:
    guard = tiny_guard()
    save(folder, guard.card, guard.head)
    return folder


def test_a_guard_comes_back_from_disk(tmp_path: Path) -> None:
    guard = tiny_guard()
    card, head = load(saved(tmp_path))
    assert card.model_copy(update={"weights_sha256": ""}) == guard.card
    features = window(0)
    assert head.score(features) == pytest.approx(
        guard.head.score(features), rel=1e-3
    )  # words are kept in half precision
    assert head.diagnosis(features) == guard.head.diagnosis(features)


def test_edited_weights_are_found(tmp_path: Path) -> None:
    weights = saved(tmp_path) / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CardError, match="SHA-256"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 3", "format = 2", "format"),
        ('name = "tiny"', 'nom = "tiny"', "nom"),
        ("threshold = 0.5", "threshold = 7.0", "threshold"),
        ("counting = 1", "counting = 7", "counting"),
        ("counted = 1", "counted = 7", "counted"),
        ("layers = 4", 'layers = "many"', "layers"),
        ("format = 3", "format = ", "guard card"),
    ],
)
def test_a_wrong_card_is_refused_with_its_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = saved(tmp_path) / CARD_FILE
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CardError, match=message):
        load(tmp_path)


def test_a_folder_without_a_card_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=CARD_FILE):
        load(tmp_path)


def test_the_shipped_guard_is_small_and_whole() -> None:
    card, head = load(default_card())
    assert sum(f.stat().st_size for f in default_card().iterdir()) < 12_000_000
    assert head.verdict.shape[0] == len(card.readouts) + len(card.pools)
    assert card.limits
    assert card.figures
