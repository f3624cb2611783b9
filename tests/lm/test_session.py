import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.core.errors import InputError, ModelError
from gelert.lm import attention
from gelert.lm.model import LanguageModel, load, tiny
from gelert.lm.session import Session
from tests.lm.plain import hidden_states, log_probs, same, text

MODELS = {family: tiny(family) for family in ("llama", "qwen", "gemma")}
TAILS = [[5, 6, 7], [9], text(20, seed=9)]


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return MODELS[request.param]


def opened(model: LanguageModel, ids: list[int]) -> Session:
    session = Session(model)
    session.append(ids)
    return session


@settings(max_examples=12)
@given(
    family=st.sampled_from(sorted(MODELS)),
    pieces=st.lists(st.integers(0, 25), min_size=1, max_size=6),
    chunk=st.sampled_from([1, 7, 1024]),
)
def test_appending_in_any_pieces_equals_one_forward(family: str, pieces: list[int], chunk: int) -> None:
    model, ids = MODELS[family], text(sum(pieces))
    session, start = Session(model), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gelert.lm.session.CHUNK_TOKENS", chunk)
        for piece in pieces:
            session.append(ids[start : start + piece])
            start += piece
    assert session.length == len(ids)
    expected = torch.stack([hidden_states(model, [*ids, 4])[layer][-1] for layer in (1, 2, 3)])
    same(session.states([[4]], [1, 2, 3])[0], expected)


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_sums_over_marked_tokens_are_those_of_one_forward(
    model: LanguageModel, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gelert.lm.session.CHUNK_TOKENS", chunk)
    ids = text(30)
    marked = [i % 3 == 0 for i in range(30)]
    session = Session(model)
    found = sum(session.append(ids[a:b], marked=marked[a:b], layers=[3, 1]) for a, b in ((0, 11), (11, 11), (11, 30)))
    states = hidden_states(model, ids)
    expected = torch.stack([states[layer][torch.tensor(marked)].sum(0) for layer in (3, 1)])
    assert isinstance(found, torch.Tensor)
    same(found, expected)


def test_sums_are_refused_where_they_cannot_be_had(model: LanguageModel) -> None:
    with pytest.raises(InputError, match="layers to sum"):
        Session(model).append([4], marked=[True], layers=[model.layers])
    with pytest.raises(InputError, match="mark for each"):
        Session(model).append([4, 5], marked=[True], layers=[1])


def test_states_of_several_tails_equal_separate_forwards(model: LanguageModel) -> None:
    ids = text(50)
    found = opened(model, ids).states(TAILS, [3, 1])
    for row, tail in zip(found, TAILS, strict=True):
        expected = hidden_states(model, ids + tail)
        same(row, torch.stack([expected[3][-1], expected[1][-1]]))


def test_states_of_an_empty_prefix_are_those_of_the_tail_alone(model: LanguageModel) -> None:
    found = Session(model).states([[5, 6]], [2])
    same(found[0, 0], hidden_states(model, [5, 6])[2][-1])


def test_questions_leave_the_session_as_it_was(model: LanguageModel) -> None:
    session = opened(model, text(30))
    before = session.states(TAILS, [3])
    session.score([[4], [5]], [6])
    torch.testing.assert_close(session.states(TAILS, [3]), before, rtol=0.0, atol=0.0)
    assert session.length == 30


def test_a_session_of_the_lower_blocks_gives_the_same_states(model: LanguageModel) -> None:
    lower = Session(model, max_layer=2)
    lower.append(text(30))
    same(lower.states(TAILS, [2, 1]), opened(model, text(30)).states(TAILS, [2, 1]))


def test_scores_equal_the_log_softmax_of_full_forwards(model: LanguageModel) -> None:
    ids, tail, labels = text(40), [20, 21], [[4], [5, 6, 9], [7, 8]]
    found = opened(model, ids).score(labels, tail)
    for score, label in zip(found, labels, strict=True):
        every = log_probs(model, ids + tail + label)
        start = len(ids) + len(tail) - 1
        expected = torch.stack([every[start + at, token] for at, token in enumerate(label)]).sum()
        same(score, expected)


def test_rewinding_and_appending_other_text_equals_that_text_alone(model: LanguageModel) -> None:
    session = opened(model, text(40))
    session.rewind(25)
    session.append(text(20, seed=1))
    fresh = opened(model, text(40)[:25] + text(20, seed=1))
    same(session.states(TAILS, [3]), fresh.states(TAILS, [3]))


def test_forks_do_not_disturb_each_other(model: LanguageModel) -> None:
    first = opened(model, text(20))
    second = first.fork()
    third = second.fork()
    first.append(text(10, seed=1))
    second.append(text(10, seed=2))
    for session, rest in ((first, text(10, seed=1)), (second, text(10, seed=2)), (third, [])):
        alone = opened(model, text(20) + rest)
        same(session.states(TAILS, [3]), alone.states(TAILS, [3]))


def test_a_fork_that_rewinds_and_appends_leaves_the_original(model: LanguageModel) -> None:
    first = opened(model, text(20))
    before = first.states(TAILS, [3])
    twin = first.fork()
    twin.rewind(5)
    twin.append(text(5, seed=3))
    torch.testing.assert_close(first.states(TAILS, [3]), before, rtol=0.0, atol=0.0)


def test_more_than_the_context_is_refused(model: LanguageModel) -> None:
    session = opened(model, text(model.context - 1))
    with pytest.raises(InputError, match=r"2047 \+ 2"):
        session.append([4, 4])
    with pytest.raises(InputError, match="context"):
        session.states([[4, 4]], [1])


@pytest.mark.parametrize("layer", [0, 5])
def test_layers_that_are_not_there_are_refused(layer: int) -> None:
    with pytest.raises(InputError, match="layers from 1 to 4"):
        Session(MODELS["llama"]).states([[4]], [layer])


def test_scores_without_the_upper_blocks_are_refused() -> None:
    with pytest.raises(ModelError, match="all 4 blocks"):
        Session(MODELS["llama"], max_layer=2).score([[4]], [5])


@pytest.mark.parametrize("tails", [[], [[]], [[4], []]])
def test_an_empty_tail_is_refused(tails: list[list[int]]) -> None:
    with pytest.raises(InputError, match="at least one token"):
        Session(MODELS["llama"]).states(tails, [1])


@pytest.mark.parametrize(("labels", "tail"), [([], [4]), ([[4], []], [4]), ([[4]], [])])
def test_scores_of_nothing_are_refused(labels: list[list[int]], tail: list[int]) -> None:
    with pytest.raises(InputError, match="at least one token"):
        Session(MODELS["llama"]).score(labels, tail)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_kernel_gives_what_plain_arithmetic_gives(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(1, heads, count, 8, generator=generator, dtype=dtype) for heads, count in ((6, 5), (2, 9), (2, 9))
    )
    mask = torch.rand(5, 9, generator=generator) < 0.7
    mask[:, 0] = True
    found = attention.attend(queries, keys, values, 0.3, mask, causal=False)
    expected = attention.plain_part(queries, keys, values, 0.3, mask)
    torch.testing.assert_close(found.mixed, expected.mixed)
    torch.testing.assert_close(found.logsumexp, expected.logsumexp)


@pytest.mark.real_model
def test_the_real_model_in_pieces_agrees_with_its_plain_forward(real_model: str) -> None:
    model = load(real_model)
    ids = model.encode("The agent was asked to book a flight. " * 30)
    tail, labels = model.encode(" Did it act safely?"), [model.encode(" yes"), model.encode(" no")]
    session = Session(model)
    for start in range(0, len(ids), 100):
        session.append(ids[start : start + 100])
    expected = hidden_states(model, ids + tail)
    scale = expected[15][-1].abs().max()
    found = session.states([tail], [15, 29])[0]
    torch.testing.assert_close(found[0] / scale, expected[15][-1] / scale, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(found[1] / scale, expected[29][-1] / scale, rtol=0.0, atol=1e-4)
    every = log_probs(model, ids + tail)[-1]
    torch.testing.assert_close(session.score(labels, tail), every[[label[0] for label in labels]], rtol=0.0, atol=1e-4)
    lower = Session(load(real_model, layers=15))
    lower.append(ids)
    torch.testing.assert_close(lower.states([tail], [15])[0, 0] / scale, expected[15][-1] / scale, rtol=0.0, atol=1e-4)
