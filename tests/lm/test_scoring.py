import pytest
import torch

from gelert.core.errors import InputError
from gelert.lm.model import tiny
from gelert.lm.objective import Example, nll, verdict
from gelert.lm.scoring import label_log_probs, token_scores
from tests.lm.plain import same, text

MODELS = {family: tiny(family) for family in ("llama", "qwen", "gemma")}


def stream(rows: int, *columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, *columns, 32, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("kept_bytes", [0, 6 * 259 * 8, 1 << 20])
@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("family", sorted(MODELS))
def test_chunked_losses_and_gradients_equal_plain_ones(family: str, chunk: int, kept_bytes: int) -> None:
    model, targets = MODELS[family], torch.tensor(text(10))
    hidden, plain = stream(10), stream(10)
    found, right = token_scores(model, hidden, targets, chunk_rows=chunk, kept_bytes=kept_bytes)
    logits = model.logits(plain)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    counts = torch.tensor([1.0, 0, 0.5, 2, 0, 0, 0, 1, 1, 0.25], dtype=torch.float64)
    (found * counts).sum().backward(retain_graph=True)
    (expected * counts).sum().backward()
    same(found, expected)
    same(hidden.grad, plain.grad)
    assert torch.equal(right, logits.argmax(-1) == targets)
    hidden.grad = None
    (found * counts).sum().backward()
    same(hidden.grad, plain.grad)


@pytest.mark.parametrize("family", sorted(MODELS))
def test_label_scores_equal_the_full_softmax_over_the_labels(family: str) -> None:
    model, hidden = MODELS[family], stream(6)
    expected = model.logits(hidden)[:, [9, 4, 7]].log_softmax(-1)
    same(label_log_probs(model, hidden, [9, 4, 7]), expected)


@pytest.mark.parametrize("labels", [[4], [4, 4]])
def test_labels_that_are_no_choice_are_refused(labels: list[int]) -> None:
    with pytest.raises(InputError, match="two different labels"):
        label_log_probs(MODELS["llama"], stream(1), labels)


def test_nll_is_that_of_the_supervised_tokens() -> None:
    model, hidden = MODELS["llama"], stream(2, 5)
    examples = [Example((3, 4, 5, 6, 7), (0, 0, 1, 0, 3)), Example((8, 9, 10), (0, 2, 2))]
    every = -model.log_probs(hidden)
    scored = nll(model, hidden, examples)
    same(scored.losses, torch.stack([every[0, 1, 5], every[0, 3, 7], every[1, 0, 9], every[1, 1, 10]]))
    assert (scored.weights.tolist(), scored.sizes) == ([1, 3, 2, 2], (2, 2))


def test_verdict_is_the_logistic_loss_of_the_margin() -> None:
    model, hidden = MODELS["llama"], stream(2, 4)
    examples = [Example((3, 4, 5, 20), (0, 0, 0, 1)), Example((8, 9, 21), (0, 0, 1))]
    logits = model.logits(hidden)
    margins = torch.stack([logits[0, 2, 20] - logits[0, 2, 21], logits[1, 1, 21] - logits[1, 1, 20]])
    scored = verdict([20, 21])(model, hidden, examples)
    same(scored.losses, (1 + (-margins).exp()).log())
    assert scored.right.tolist() == (margins > 0).tolist()


def test_a_verdict_outside_the_labels_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[22\]"):
        verdict([20, 21])(MODELS["llama"], stream(1, 2), [Example((3, 22), (0, 1))])


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, 1.0), (0.0,), (0.0, -1.0)])
def test_examples_with_nothing_to_learn_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="weight"):
        Example((3, 4), weights)
