from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError, MissingError, ModelError
from gelert.lm.model import LanguageModel, load, tiny
from gelert.lm.session import Session
from gelert.lm.toy import SPECIALS
from tests.lm.plain import hidden_states, log_probs, text

TINY = tiny()
hostile = st.lists(st.one_of(st.text(max_size=10), st.sampled_from([*SPECIALS, "<|", "|>", "im_start"]))).map("".join)


def stored(folder: Path, model: LanguageModel) -> Path:
    model.net.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@given(hostile)
def test_no_text_gives_a_control_token(written: str) -> None:
    assert TINY.controls.isdisjoint(TINY.encode(written))


@given(st.text())
def test_encoded_text_decodes_to_itself(written: str) -> None:
    clean = written.encode("utf-8", "replace").decode()
    assert TINY.decode(TINY.encode(written)) == clean


def test_lone_surrogates_are_read_as_question_marks() -> None:
    assert TINY.encode("a\ud800b") == TINY.encode("a?b")


def test_a_vocabulary_entry_spelt_like_a_control_token_is_read_letter_by_letter() -> None:
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: number for number, letter in enumerate("<x>")} | {"<x": 3, "<x>": 4}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("<", "x"), ("<x", ">")]))
    backend.add_special_tokens([AddedToken("<x>", special=True)])
    spelling = PreTrainedTokenizerFast(tokenizer_object=backend)
    model = LanguageModel(TINY.net, spelling, "spelling", "", depth=4)
    assert model.controls == {4}
    assert model.encode("<x><x>") == [0, 1, 2, 0, 1, 2]


def test_special_finds_control_tokens_and_nothing_else() -> None:
    assert [TINY.special(name) for name in SPECIALS] == [0, 1, 2]
    with pytest.raises(InputError, match=r"<\|im_start\|>"):
        TINY.special("a")


@pytest.mark.parametrize("family", ["llama", "qwen", "gemma"])
def test_a_model_loaded_in_part_has_the_lower_blocks_of_the_whole(tmp_path: Path, family: str) -> None:
    whole = tiny(family, dtype="float32")  # pyright: ignore[reportArgumentType] (parametrize hands strings over)
    lower = load(stored(tmp_path, whole), layers=2)
    session = Session(lower)
    session.append(text(20))
    assert (lower.layers, lower.depth) == (2, 4)
    torch.testing.assert_close(session.states([[4]], [2])[0, 0], hidden_states(whole, [*text(20), 4])[2][-1])


def test_a_loaded_model_gives_the_same_scores_and_fingerprint_in_any_type(tmp_path: Path) -> None:
    stored(tmp_path, tiny("qwen", dtype="float32"))
    single, double = load(tmp_path), load(tmp_path, dtype="float64", layers=4)
    assert single.fingerprint == double.fingerprint
    torch.testing.assert_close(log_probs(single, text(9)).double(), log_probs(double, text(9)), rtol=0.0, atol=1e-3)


def test_tiny_models_are_seeded() -> None:
    assert tiny(seed=3).fingerprint == tiny(seed=3).fingerprint != tiny(seed=4).fingerprint


def test_shape_facts() -> None:
    model = tiny("gemma", layers=3, width=16)
    assert (model.layers, model.width, model.vocab, model.context) == (3, 16, 259, 2048)
    assert model.kinds == ["sliding_attention", "sliding_attention", "full_attention"]


def test_a_family_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="'gpt2'"):
        load(tmp_path)


def test_a_rotary_embedding_that_depends_on_the_length_is_refused(tmp_path: Path) -> None:
    rope = '{"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}'
    (tmp_path / "config.json").write_text(f'{{"model_type": "llama", "rope_parameters": {rope}}}')
    with pytest.raises(ModelError, match="'dynamic'"):
        load(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, tiny(dtype="float32"))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="readable model"):
        load(tmp_path)


def test_more_blocks_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="between 1 and 4"):
        load(stored(tmp_path, tiny(dtype="float32")), layers=5)


def test_a_model_that_is_not_fetched_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GELERT_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match="gelert model pull smollm2-135m"):
        load("smollm2-135m")


@pytest.mark.real_model
def test_no_special_token_of_the_real_model_can_be_spelt(real_model: str) -> None:
    model = load(real_model, layers=1)
    names = [token.content for token in model.tokenizer.added_tokens_decoder.values()]
    assert len(names) == 17
    for name in names:
        ids = model.encode(f"x{name} {name}")
        assert model.controls.isdisjoint(ids)
        assert model.decode(ids) == f"x{name} {name}"
