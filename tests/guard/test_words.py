"""Counts of hashed words and characters: additive, bounded, the same as counting plainly."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import CardError
from gelert.core.trajectory import Role, Step, ToolCall
from gelert.guard.words import (
    BINS,
    CHARACTERS,
    TERMS,
    VIEWS,
    Tally,
    WordWeights,
    characters,
    step_terms,
    weighed,
    words,
)

TEXT = st.text(alphabet=st.characters(codec=None), max_size=60)  # pyright: ignore[reportArgumentType] - surrogates too


@given(TEXT)
def test_equal_runs_of_characters_share_a_hash_and_different_ones_do_not(text: str) -> None:
    plain: list[str] = []
    spaced = f" {' '.join(text.lower().split())} "
    for length in CHARACTERS:
        every = (spaced[i : i + length] for i in range(len(spaced) - length + 1))
        plain += [gram for gram in every if " " not in gram[1:-1]]
    hashed = characters(text)
    assert sorted(Counter(hashed.tolist()).values()) == sorted(Counter(plain).values())


def test_words_and_pairs_of_neighbours_are_counted_without_case() -> None:
    once = words("Delete the files")
    assert len(once) == 5
    assert set(words("delete").tolist()) < set(once.tolist())
    assert np.array_equal(once, words("delete  THE files!"))
    assert not set(words("the delete").tolist()[2:]) & set(once.tolist())


@given(st.lists(TEXT, max_size=4))
def test_a_tally_of_steps_is_the_sum_of_its_steps(texts: list[str]) -> None:
    tally, plain = Tally(), Counter[int]()
    for text in texts:
        step = Step(Role.AGENT, text, thought=text, calls=(ToolCall("shell", text),))
        tally.add(step_terms(step, text))
        plain.update(step_terms(step, text).tolist())
    found = tally.counts()
    assert dict(zip(found.terms.tolist(), found.counts.tolist(), strict=True)) == dict(plain)
    assert ((found.terms >= 0) & (found.terms < TERMS)).all()


def test_only_the_agents_words_are_its_own() -> None:
    said = step_terms(Step(Role.USER, "hello there"), "hello there") // BINS
    assert {VIEWS[v][0] for v in said.tolist()} == {"all"}
    own = step_terms(Step(Role.AGENT, "hello there"), "hello there") // BINS
    assert {VIEWS[v][0] for v in own.tolist()} == {"all", "said"}


def test_every_view_has_length_one_however_long_the_text() -> None:
    tally = Tally()
    tally.add(step_terms(Step(Role.AGENT, "spam eggs " * 5_000), "spam eggs " * 5_000))
    counts = tally.counts()
    values = weighed(counts, np.ones(TERMS, np.float32))
    lengths = np.bincount(counts.terms // BINS, values**2, minlength=len(VIEWS))
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-5)


def test_terms_that_are_not_known_say_nothing() -> None:
    tally = Tally()
    tally.add(step_terms(Step(Role.AGENT, "spam eggs"), "spam eggs"))
    weights = WordWeights(np.zeros(TERMS, np.float32), np.ones(TERMS, np.float32), center=0.5)
    assert weights.score(tally.counts()) == -0.5


def test_a_long_step_is_counted_whole() -> None:
    step = Step(Role.TOOL, "word " * 200_000)
    assert len(step_terms(step, step.text)) > 1_000_000


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(CardError, match="word weights"):
        WordWeights(np.ones(3, np.float32), np.ones(3, np.float32))
