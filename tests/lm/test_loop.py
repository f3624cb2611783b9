import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from gelert.core.errors import InputError
from gelert.lm import bank
from gelert.lm.adam import Adam
from gelert.lm.bank import Bank, Spec
from gelert.lm.certificate import certify
from gelert.lm.curriculum import Curriculum, order
from gelert.lm.loop import Config, Step, Task, Training, learning_rate
from gelert.lm.model import tiny
from gelert.lm.objective import Example, verdict
from gelert.lm.trunk import Trunk
from gelert.lm.weights import METHODS
from tests.lm.plain import text

MODEL = tiny()
TRUNK = Trunk(MODEL, 2)
BESIDE = Trunk(MODEL, 3, branch=True)
EXAMPLES = [Example(tuple(text(8 + seed, seed)), (0,) + (1,) * (7 + seed)) for seed in range(3)]
SPECS = [Spec(rank=1, seed=1), Spec(rank=4, seed=2)]
CONFIG = Config(steps=6, learning_rate=0.01, warmup_steps=2, examples_per_step=2, clip_norm=0.5)
TASKS = [
    Task(EXAMPLES, replace(CONFIG, dropout=0.1)),
    Task(EXAMPLES[:1], replace(CONFIG, steps=3, decay="linear", rule=METHODS["memft-sw"], seed=3)),
    Task(EXAMPLES[1:], replace(CONFIG, rule=METHODS["memft-ot"], curriculum=Curriculum((1, 2), (0.5, 1.0)))),
]
THREE = [Spec(rank=1, seed=1, alpha=1), Spec(rank=4, seed=2, alpha=4), Spec(rank=2, seed=5, alpha=2)]


def fresh(specs: Sequence[Spec] = SPECS) -> Bank:
    return bank.new(MODEL, specs, blocks_from=2)


def branches(specs: Sequence[Spec] = THREE) -> Bank:
    return bank.branches(MODEL, specs, 2)


def trained(adapters: Bank, tasks: Sequence[Task], trunk: Trunk = TRUNK) -> list[Step]:
    return list(Training(trunk, adapters, tasks).run())


@pytest.mark.parametrize(("make", "trunk"), [(fresh, TRUNK), (branches, BESIDE)], ids=["linear", "branch"])
def test_adapters_trained_together_are_trained_as_each_alone(
    make: Callable[[Sequence[Spec]], Bank], trunk: Trunk
) -> None:
    together = make(THREE)
    steps = trained(together, TASKS, trunk)
    for number, spec in enumerate(THREE):
        alone = make([spec])
        losses = [step.losses[number] for step in steps if step.losses[number] is not None]
        assert [step.losses[0] for step in trained(alone, [TASKS[number]], trunk)] == pytest.approx(losses)
        for name, factors in bank.one(alone, 0).items():
            for own, other in zip(factors, bank.one(together, number)[name], strict=True):
                torch.testing.assert_close(own, other, rtol=0.0, atol=1e-8)


def test_a_branch_on_the_trunk_is_the_branch_in_the_model() -> None:
    made = branches()
    trained(made, TASKS, BESIDE)
    adapters = [2, 0, 1]
    for whole in (Trunk(MODEL, 0), Trunk(MODEL, 2), Trunk(MODEL, 2, branch=True)):
        found = certify(whole, EXAMPLES, made, adapters)
        for one, other in zip(found, certify(BESIDE, EXAMPLES, made, adapters), strict=True):
            assert one.losses == pytest.approx(other.losses, abs=1e-10)


def test_padding_of_smaller_ranks_stays_zero() -> None:
    adapters = fresh()
    trained(adapters, [Task(EXAMPLES, CONFIG)] * 2)
    for pair in adapters.pairs.values():
        assert not pair.down[0, 1:].any()
        assert not pair.up[0, :, 1:].any()


def test_an_interrupted_training_goes_on_exactly() -> None:
    expected = trained(branches(), TASKS, BESIDE)
    started = Training(BESIDE, branches(), TASKS)
    steps = started.run()
    for _ in range(4):
        next(steps)
    kept = io.BytesIO()
    torch.save(started.state(), kept)
    kept.seek(0)
    resumed = Training(BESIDE, branches(), TASKS)
    resumed.restore(torch.load(kept, weights_only=True))
    assert list(resumed.run()) == expected[4:]


def test_a_recalled_text_leaves_and_stays_as_it_was_certified() -> None:
    config = Config(steps=400, learning_rate=0.02, warmup_steps=0, examples_per_step=1, decay="linear", until=0.2)
    prompted = [Example(tuple(text(8, seed)), (0,) * 4 + (1,) * 4) for seed in range(3)]
    for tasks in ([Task(EXAMPLES[:1], config)] * 2, [Task(prompted, config)] * 2):
        adapters = fresh([Spec(rank=8), Spec(rank=6)])
        training = Training(TRUNK, adapters, tasks)
        steps = list(training.run())
        assert training.certified == [True, True]
        assert len(steps) < 400
        examples = list(tasks[0].examples)
        for number in range(2):
            found = certify(TRUNK, examples, adapters, [number] * len(examples))
            assert all(one.recalled and min(one.probabilities) > 0.2 for one in found)


def test_memft_with_nothing_left_to_learn_stops() -> None:
    config = Config(steps=300, learning_rate=0.03, warmup_steps=0, examples_per_step=1, rule=METHODS["memft-ot"])
    adapters = fresh()
    training = Training(TRUNK, adapters, [Task(EXAMPLES[:1], config)] * 2)
    assert len(list(training.run())) < 300
    assert all(one.doubtful is None for one in certify(TRUNK, EXAMPLES[:1] * 2, adapters, [0, 1]))


def test_a_verdict_is_learned() -> None:
    asked = [Example((*text(6, seed), 20 + seed % 2), (0,) * 6 + (1,)) for seed in range(4)]
    config = Config(steps=15, learning_rate=0.03, warmup_steps=2)
    training = Training(TRUNK, fresh(), [Task(asked, config)] * 2, objective=verdict([20, 21]))
    losses = [step.losses[1] for step in training.run()]
    first, last = losses[0], losses[-1]
    assert first is not None
    assert last is not None
    assert last < 0.1 < first


def test_the_curriculum_decides_what_is_learned() -> None:
    config = replace(CONFIG, steps=4, examples_per_step=1, curriculum=Curriculum((2, 3), (0.34, 1.0)))
    training = Training(TRUNK, fresh([SPECS[0]]), [Task(EXAMPLES, config)])
    lengths = [len(training._rows([0]).examples[0].ids) for _ in range(5)]  # pyright: ignore[reportPrivateUsage]
    first, second, third = (8 + number for number in order(config.seed, 3))
    assert lengths == [first, first, first, second, third]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_adam_is_the_librarys_for_each_adapter(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(3, 4, 5, generator=generator, dtype=dtype)
    theirs = [factor[number].clone().requires_grad_() for number in range(3)]
    optimisers = [torch.optim.AdamW([one], lr=0.0, weight_decay=0.0) for one in theirs]
    ours = factor.clone().requires_grad_()
    adam = Adam([ours])
    for moved in ([0, 1, 2], [0, 2], [1], [], [2, 1, 0], [0]):
        gradient = torch.randn(3, 4, 5, generator=generator, dtype=dtype)
        ours.grad = gradient
        adam.step(moved, [0.1 * (number + 1) for number in moved])
        for number in moved:
            theirs[number].grad = gradient[number]
            optimisers[number].param_groups[0]["lr"] = 0.1 * (number + 1)
            optimisers[number].step()
    for number in range(3):
        torch.testing.assert_close(ours[number], theirs[number])


def test_the_rate_rises_and_falls() -> None:
    config = Config(steps=10, learning_rate=1.0, warmup_steps=2, decay="linear")
    assert [learning_rate(config, done) for done in (0, 1, 2, 6, 9)] == [0.5, 1.0, 1.0, 0.5, 0.125]
    assert learning_rate(replace(config, decay="cosine"), 10) == pytest.approx(0.1)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(InputError, match="at least one example"):
        Training(TRUNK, fresh(), [Task([], CONFIG)] * 2)
    with pytest.raises(InputError, match=r"above the trunk's 3 blocks"):
        Training(Trunk(MODEL, 3), fresh(), [Task(EXAMPLES, CONFIG)] * 2)
    with pytest.raises(InputError, match=r"above the trunk's 3 blocks, got '1.branch'"):
        Training(BESIDE, bank.branches(MODEL, SPECS, 1), [Task(EXAMPLES, CONFIG)] * 2)
