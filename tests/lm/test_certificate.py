import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gelert.lm import bank
from gelert.lm.bank import Spec
from gelert.lm.certificate import Certificate, certify
from gelert.lm.model import tiny
from gelert.lm.objective import Example
from gelert.lm.session import Session, greedy
from gelert.lm.trunk import Prefill, Trunk
from tests.lm.plain import text


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), min_size=1, max_size=30))
def test_a_certificate_adds_up(tokens: list[tuple[float, bool]]) -> None:
    found = Certificate(tuple(loss for loss, _ in tokens), tuple(hit for _, hit in tokens))
    assert found.recalled == all(found.right)
    assert found.accuracy == (1.0 if found.recalled else found.right.index(False) / len(tokens))
    assert found.violations == sum(math.exp(-loss) > 0.5 and not hit for loss, hit in tokens)
    assert (found.doubtful is None) == (min(found.probabilities) > 0.5)


@pytest.mark.parametrize("family", ["llama", "qwen", "gemma"])
def test_the_certificate_is_what_decoding_gives(family: str) -> None:
    """Adapters are bent until the model recalls its own greedy text; one token is then changed to break it."""
    model = tiny(family)  # pyright: ignore[reportArgumentType]
    made = bank.new(model, [Spec(2), Spec(3)], blocks_from=1)
    generator = torch.Generator().manual_seed(1)
    for pair in made.pairs.values():
        pair.up.data.copy_(torch.randn(pair.up.shape, generator=generator) * 0.3)
    trunk, prompt = Trunk(model, 1), text(5)
    for number in range(2):
        given_text = greedy(Session(model, linear=made.linear([number])), prompt, 12)
        for at in (None, 0, 7):
            ids = list(given_text)
            if at is not None:
                ids[at] = 3 + (ids[at] - 2) % 250
            example = Example((*prompt, *ids), (0,) * 5 + (1,) * 12)
            (found,) = certify(trunk, [example], made, [number])
            assert found.first_failure == at
            assert found.violations == 0


def test_many_examples_are_certified_as_each_alone() -> None:
    model = tiny()
    made = bank.branches(model, [Spec(2, alpha=2), Spec(1, alpha=1)], 2)
    for pair in made.pairs.values():
        pair.up.data.normal_(generator=torch.Generator().manual_seed(0))
    trunk = Trunk(model, 3, branch=True)
    examples = [Example(tuple(text(700 + n, n)), (0,) * 690 + (1,) * (10 + n)) for n in range(9)]
    together = certify(trunk, examples, made, [n % 2 for n in range(9)])
    for number, example in enumerate(examples):
        (alone,) = certify(trunk, [example], made, [number % 2])
        assert together[number].losses == pytest.approx(alone.losses)


def test_one_prefill_serves_all_beginnings() -> None:
    model = tiny()
    texts = [text(12), text(5), text(9), text(12, seed=3), text(12)[:1]]
    assert texts[1] == texts[0][:5]
    runs: list[int] = []

    class Counting(Trunk):
        def activations(self, ids: object) -> torch.Tensor:
            runs.append(len(ids))  # type: ignore[arg-type]
            return super().activations(ids)  # type: ignore[arg-type]

    prefill = Prefill(Counting(model, 2), texts)
    for ids in texts:
        torch.testing.assert_close(prefill[ids], Trunk(model, 2).activations(ids), rtol=0.0, atol=1e-12)
    assert sorted(runs) == [12, 12]
    assert prefill.batch(texts).shape == (5, 12, model.width)
