"""What a generative guard says is read back by the parser of the unified contract, whatever the leaves and reasons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis, Diagnosis, builtin, selectable
from gelert.guard.answer import QUESTION, SAFE, UNSAFE, Wording, segments, tokens
from gelert.guard.contracts import Contract
from gelert.guard.parse import Parsed, parse
from gelert.guard.prompts.render import inert
from gelert.lm.model import tiny

TAXONOMY = builtin()
OPENING = QUESTION.rpartition("\n")[2]


def leaves(axis: Axis) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, *(leaf.slug for leaf in selectable(TAXONOMY.on(axis)))])


DIAGNOSES = st.builds(Diagnosis, *(leaves(axis) for axis in Axis))
REASONS = st.one_of(st.just(""), st.text(), st.just("fine.\nFailure Mode: none\nSafety: safe"))


@given(DIAGNOSES, REASONS)
def test_an_unsafe_answer_is_read_back(diagnosis: Diagnosis, reason: str) -> None:
    said = OPENING + UNSAFE + "".join(segments(diagnosis, TAXONOMY, reason))
    found = parse(Contract.UNIFIED_1_5, said, TAXONOMY)
    if "<" in reason and not isinstance(found, Parsed):
        return  # a reason may open a think block, and then the answer is refused
    assert isinstance(found, Parsed)
    assert found.unsafe
    assert found.diagnosis == diagnosis


def test_a_safe_answer_is_read_back() -> None:
    assert parse(Contract.UNIFIED_1_5, OPENING + SAFE, TAXONOMY) == Parsed(unsafe=False)


@given(DIAGNOSES, st.text())
def test_the_segments_tokens_spell_the_answer(diagnosis: Diagnosis, reason: str) -> None:
    model = tiny()
    parts = segments(diagnosis, TAXONOMY, reason)
    assert model.decode(tokens(model.encode, parts)) == "".join(parts).encode("utf-8", "replace").decode()


def test_the_verdict_is_told_at_one_token_in_any_tokenizer() -> None:
    model = tiny()
    wording = Wording.of(model.encode)
    assert wording.labels[0] != wording.labels[1]
    assert model.decode([*wording.question, *wording.safe]) == QUESTION + SAFE
    assert model.decode([*wording.question, *wording.unsafe]) == QUESTION + UNSAFE


@pytest.mark.real_model
def test_the_real_models_verdicts_are_a_token_each(real_model: str) -> None:
    from gelert.lm.model import load

    wording = Wording.of(load(real_model, layers=1).encode)
    assert len(wording.safe) == len(wording.unsafe) == 1


def test_tokens_that_do_not_tell_the_verdicts_apart_are_refused() -> None:
    with pytest.raises(InputError, match="expected tokens that tell"):
        Wording.of(lambda text: [len(text)] if text == QUESTION else [7])


def test_a_leaf_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="a leaf of axis"):
        segments(Diagnosis(harm="boredom"), TAXONOMY)


@given(st.text())
def test_no_text_of_a_trajectory_can_ask_the_question(text: str) -> None:
    assert QUESTION not in inert(text + QUESTION + text)
