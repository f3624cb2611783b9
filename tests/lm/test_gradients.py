import numpy as np
import pytest
import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.lm import bank
from gelert.lm.bank import Bank, Spec
from gelert.lm.gradients import flattened, margin, margin_gradients
from gelert.lm.model import LanguageModel, tiny
from gelert.lm.trunk import Trunk
from tests.lm.plain import same, text

LABELS = (40, 50)
MODEL = tiny("llama")


def stirred(model: LanguageModel, specs: tuple[Spec, ...], blocks_from: int = 2) -> Bank:
    """A bank whose B factors are not zero, as after training."""
    made = bank.new(model, specs, blocks_from=blocks_from)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for pair in made.pairs.values():
            pair.up.add_(torch.randn(pair.up.shape, generator=generator, dtype=pair.up.dtype), alpha=0.1)
    return made


def by_hand(model: LanguageModel, adapters: Bank, ids: list[int]) -> tuple[float, Tensor]:
    """Through the library's own forward pass, with the adapter added to the weights and autograd over everything."""
    factors = bank.one(adapters, 0)
    leaves = [factor.requires_grad_() for pair in factors.values() for factor in pair]
    spec = adapters.specs[0]
    changed: dict[str, Tensor] = {}
    for name, (down, up) in factors.items():
        path = f"model.layers.{name}.weight"
        changed[path] = model.net.get_parameter(path) + spec.alpha / spec.rank * up @ down
    out = torch.func.functional_call(model.net, changed, (torch.tensor([ids]),), {"use_cache": False})
    scores = out.logits[0, -1]
    m = scores[LABELS[1]] - scores[LABELS[0]]
    return m.item(), torch.cat([g.flatten() for g in torch.autograd.grad(m, leaves)])


def test_gradients_on_the_cached_trunk_are_autograds_through_the_whole_model() -> None:
    adapters = stirred(MODEL, (Spec(rank=2, alpha=3.0),))
    runs = [text(9, seed=1), text(14, seed=2)]
    found = list(margin_gradients(Trunk(MODEL, 2), adapters, runs, LABELS))
    assert len(found) == 2
    for ids, gradient in zip(runs, found, strict=True):
        m, expected = by_hand(MODEL, adapters, ids)
        assert margin(Trunk(MODEL, 2), adapters, ids, LABELS).item() == pytest.approx(m, abs=1e-10)
        same(gradient, expected)


def test_an_adapter_among_others_has_the_gradient_it_has_alone() -> None:
    many = stirred(MODEL, (Spec(rank=5), Spec(rank=2, seed=1)))
    alone = bank.stack(many.specs[1:], [bank.one(many, 1)])
    both = [
        next(margin_gradients(Trunk(MODEL, 2), b, [text(8)], LABELS, adapter=a)) for b, a in ((many, 1), (alone, 0))
    ]
    same(*both)


def test_a_gradient_predicts_what_a_small_step_does() -> None:
    adapters, trunk, ids = stirred(MODEL, (Spec(rank=2),)), Trunk(MODEL, 2), text(8)
    before = margin(trunk, adapters, ids, LABELS).item()
    gradient = next(margin_gradients(trunk, adapters, [ids], LABELS))
    start = flattened(adapters, adapters.parameters(), 0, 2)
    with torch.no_grad():
        for pair in adapters.pairs.values():
            pieces = (pair.down.numel(), pair.up.numel())
            down, up, gradient = gradient.split((*pieces, len(gradient) - sum(pieces)))
            pair.down.add_(down.view_as(pair.down), alpha=1e-6)
            pair.up.add_(up.view_as(pair.up), alpha=1e-6)
    moved = (flattened(adapters, adapters.parameters(), 0, 2) - start) / 1e-6
    assert margin(trunk, adapters, ids, LABELS).item() - before == pytest.approx(1e-6 * float(moved @ moved), rel=1e-3)


def test_a_sketch_is_taken_of_each_gradient() -> None:
    adapters, trunk = stirred(MODEL, (Spec(rank=2),)), Trunk(MODEL, 2)
    whole = next(margin_gradients(trunk, adapters, [text(8)], LABELS))
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=(len(whole), 5)))
    found = next(margin_gradients(trunk, adapters, [text(8)], LABELS, sketch=lambda g: g @ matrix))
    same(found, whole @ matrix)


def test_an_adapter_inside_the_trunk_is_refused() -> None:
    with pytest.raises(InputError, match="above a trunk of 3 blocks"):
        next(margin_gradients(Trunk(MODEL, 3), stirred(MODEL, (Spec(rank=2),)), [text(8)], LABELS))
