import io

import pytest
import torch

from gelert.core.errors import InputError
from gelert.lm import bank
from gelert.lm.bank import Bank, Spec
from gelert.lm.loop import Config, Step, Training
from gelert.lm.model import tiny
from gelert.lm.objective import Example, verdict
from gelert.lm.trunk import Trunk
from tests.lm.plain import text

MODEL = tiny()
TRUNK = Trunk(MODEL, 2)
EXAMPLES = [Example(tuple(text(8 + seed, seed)), (0,) + (1,) * (7 + seed)) for seed in range(3)]
SPECS = [Spec(rank=1, seed=1), Spec(rank=4, seed=2)]
CONFIG = Config(steps=6, learning_rate=0.01, warmup_steps=2, examples_per_step=2, clip_norm=0.5)


def fresh(specs: list[Spec] = SPECS) -> Bank:
    return bank.new(MODEL, specs, blocks_from=2)


def trained(adapters: Bank) -> list[Step]:
    return list(Training(TRUNK, adapters, EXAMPLES, CONFIG).run())


def test_adapters_trained_together_are_trained_as_each_alone() -> None:
    together = fresh()
    steps = trained(together)
    for number, spec in enumerate(SPECS):
        alone = fresh([spec])
        assert [step.losses[0] for step in trained(alone)] == pytest.approx([step.losses[number] for step in steps])
        for name, factors in bank.one(alone, 0).items():
            for own, other in zip(factors, bank.one(together, number)[name], strict=True):
                torch.testing.assert_close(own, other, rtol=0.0, atol=1e-8)


def test_padding_of_smaller_ranks_stays_zero() -> None:
    adapters = fresh()
    trained(adapters)
    for pair in adapters.pairs.values():
        assert not pair.down[0, 1:].any()
        assert not pair.up[0, :, 1:].any()


def test_an_interrupted_training_goes_on_exactly() -> None:
    whole, first, second = fresh(), fresh(), fresh()
    expected = trained(whole)
    started = Training(TRUNK, first, EXAMPLES, CONFIG)
    steps = started.run()
    for _ in range(3):
        next(steps)
    kept = io.BytesIO()
    torch.save(started.state(), kept)
    kept.seek(0)
    resumed = Training(TRUNK, second, EXAMPLES, CONFIG)
    resumed.restore(torch.load(kept, weights_only=True))
    assert list(resumed.run()) == expected[3:]


def test_training_memorises_a_short_text() -> None:
    example = EXAMPLES[:1]
    config = Config(steps=25, learning_rate=0.03, warmup_steps=5, examples_per_step=1)
    losses = [step.losses for step in Training(TRUNK, fresh(), example, config).run()]
    assert all(after < before / 2 for before, after in zip(losses[0], losses[-1], strict=True))


def test_a_verdict_is_learned() -> None:
    asked = [Example((*text(6, seed), 20 + seed % 2), (0,) * 6 + (1,)) for seed in range(4)]
    config = Config(steps=15, learning_rate=0.03, warmup_steps=2)
    losses = [step.losses for step in Training(TRUNK, fresh(), asked, config, objective=verdict([20, 21])).run()]
    assert losses[-1][1] < 0.1 < losses[0][1]


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(InputError, match="at least one example"):
        Training(TRUNK, fresh(), [], CONFIG)
    with pytest.raises(InputError, match=r"above the trunk's 3 blocks"):
        Training(Trunk(MODEL, 3), fresh(), EXAMPLES, CONFIG)
