"""Replies to kept prompts: the numbers of the whole pass, at the cost of the reply."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.lm.bank import Bank, Spec, new
from gelert.lm.loop import Config, Task, Training
from gelert.lm.model import Dtype, LanguageModel, tiny
from gelert.lm.objective import Twins, graded
from gelert.lm.prefix import Prefixes, Reply, Whole, attend_after
from gelert.lm.session import Session
from gelert.lm.toy import Family
from gelert.lm.trunk import Trunk
from tests.lm.plain import log_probs, same, text

FAMILIES: list[Family] = ["llama", "qwen", "gemma"]
LABELS = (10, 11)


def reply(prompt: int, seed: int, *, own: int = 7, verdict: int = 10, twin: str = "") -> Reply:
    """A question of four tokens, a verdict, and what follows it."""
    ids = [*text(4, 999), verdict, *text(own - 5, seed)]
    return Reply(tuple(ids), (0.0,) * 4 + (1.0,) * (own - 4), twin, tuple(text(prompt, seed)))


def trained(model: LanguageModel, layer: int, adapters: int = 1) -> Bank:
    """Adapters that change what the model says."""
    bank = new(model, [Spec(2 + n, seed=n) for n in range(adapters)], blocks_from=layer)
    with torch.no_grad():
        for number, pair in enumerate(bank.pairs.values()):
            for adapter, spec in enumerate(bank.specs):
                drawn = torch.randn(pair.up.shape[1], spec.rank, generator=torch.Generator().manual_seed(number))
                pair.up[adapter, :, : spec.rank] = 0.05 * drawn
    return bank


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize(("dtype", "most"), [("float64", 1e-10), ("float32", 1e-5)])
def test_without_adapters_the_logits_are_those_of_the_full_pass(
    family: Family, layer: int, dtype: Dtype, most: float
) -> None:
    model = tiny(family, dtype=dtype)
    replies = [reply(40, 1), reply(11, 2, own=9), reply(40, 1, own=6)]
    prefixes = Prefixes(Trunk(model, layer))
    prefixes.read(replies)
    found = prefixes.stream(replies, lambda _name, module, inputs: module(inputs))
    for row, one in enumerate(replies):
        expected = log_probs(model, [*one.prompt, *one.ids])[len(one.prompt) :]
        own = model.log_probs(found[row, : len(one.ids)])
        torch.testing.assert_close(own, expected, rtol=0.0, atol=most)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_adapters_the_stream_is_that_of_a_session_whose_prefix_is_frozen(family: Family) -> None:
    model = tiny(family)
    replies, bank = [reply(30, 1), reply(12, 2, own=9)], trained(model, 2, 2)
    found = Prefixes(Trunk(model, 2)).stream(replies, bank.linear([0, 1]))
    for row, one in enumerate(replies):
        session = Session(model)
        session.append(one.prompt)
        asks = session.fork()
        asks.linear = bank.linear([row])
        same(found[row, : len(one.ids)], asks.stream(one.ids, model.layers))


def test_adapters_on_all_tokens_are_the_whole_pass_and_another_thing() -> None:
    model = tiny()
    replies, bank = [reply(30, 1), reply(12, 2, own=9)], trained(model, 2, 2)
    whole = Whole(Trunk(model, 2))
    whole.read(replies)
    found = whole.stream(replies, bank.linear([0, 1]))
    for row, one in enumerate(replies):
        session = Session(model, linear=bank.linear([row]))
        session.append(one.prompt)
        same(found[row, : len(one.ids)], session.stream(one.ids, model.layers))
    assert not torch.allclose(found, Prefixes(Trunk(model, 2)).stream(replies, bank.linear([0, 1])))


def test_gradients_are_those_of_an_independent_pass() -> None:
    model = tiny(layers=2)
    one, bank = reply(9, 1), trained(model, 1)
    Prefixes(Trunk(model, 1)).stream([one], bank.linear([0])).square().sum().backward()
    found = {name: pair.up.grad for name, pair in bank.pairs.items()}
    other, trunk = trained(model, 1), Trunk(model, 1)
    ids = [*one.prompt, *one.ids]
    acts = other.linear([0])

    def from_the_question(name: str, module: Any, inputs: Tensor) -> Tensor:
        own = torch.arange(inputs.shape[1])[None, :, None] >= len(one.prompt)
        return torch.where(own, acts(name, module, inputs), module(inputs))

    hidden = trunk.upper(trunk.activations(ids)[None], linear=from_the_question)
    hidden[:, len(one.prompt) :].square().sum().backward()
    for name, pair in other.pairs.items():
        same(found[name], pair.up.grad)


def test_what_is_kept_is_read_back_and_what_is_torn_is_made_again(tmp_path: Path) -> None:
    model = tiny()
    replies = [reply(20, 1), reply(25, 2)]
    counted: list[int] = []
    first = Prefixes(Trunk(model, 1, tmp_path))
    first.read(replies, counted.append)
    expected = first.stream(replies, lambda _name, module, inputs: module(inputs))
    files = sorted(tmp_path.rglob("*.pt"))
    assert len(files) == 2
    assert counted == [1, 2]
    files[0].write_bytes(files[0].read_bytes()[:100])
    again = Prefixes(Trunk(model, 1, tmp_path))
    same(again.stream(replies, lambda _name, module, inputs: module(inputs)), expected)


def test_prompts_that_begin_alike_are_read_as_if_alone() -> None:
    model = tiny()
    start = text(20, 5)
    replies = [replace(reply(1, n), prompt=(*start[:cut], *text(6, n))) for n, cut in enumerate((20, 12, 20, 0))]
    together = Prefixes(Trunk(model, 1))
    together.read(replies)
    for one in replies:
        same(together[one].keys, Prefixes(Trunk(model, 1))[one].keys)


def test_a_prompt_of_no_tokens_leaves_attention_among_the_own() -> None:
    drawn = [torch.randn(2, heads, 3, 4, dtype=torch.float64) for heads in (4, 2, 2)]
    none = torch.zeros(2, 0, 4, dtype=torch.float64)
    found = attend_after(drawn[0], (drawn[1], drawn[2]), (none, none), 0.5, None)
    expected = torch.nn.functional.scaled_dot_product_attention(
        drawn[0], drawn[1], drawn[2], is_causal=True, scale=0.5, enable_gqa=True
    )
    same(found, expected)


def test_cells_that_train_together_end_as_those_that_train_alone() -> None:
    model = tiny()
    replies = [reply(15, n, verdict=LABELS[n % 2], twin=f"pair {n // 2}") for n in range(6)]
    config = Config(steps=3, learning_rate=1e-2, examples_per_step=4, together=2, warmup_steps=1)
    configs = [config, replace(config, twins=Twins(2.0)), replace(config, seed=1)]

    def after(chosen: list[int]) -> list[Tensor]:
        bank = new(model, [Spec(2, seed=n) for n in chosen], blocks_from=2)
        trunk = Trunk(model, 2)
        tasks = [Task(replies, configs[n]) for n in chosen]
        training = Training(trunk, bank, tasks, objective=graded(LABELS), stream=Prefixes(trunk).stream)
        assert len(list(training.run())) == 3
        return [factor.detach() for factor in bank.parameters()]

    together, alone = after([0, 1, 2]), after([1])
    for both, own in zip(together, alone, strict=True):
        same(both[1], own[0])
    assert not torch.allclose(together[1][0], together[1][1])


def test_twins_come_together_at_every_step() -> None:
    model = tiny()
    replies = [reply(5, n, verdict=LABELS[n % 2], twin=f"pair {n // 2}") for n in range(8)]
    seen: list[list[str]] = []
    trunk = Trunk(model, 2)
    prefixes = Prefixes(trunk)

    def stream(examples: Any, linear: Any) -> Tensor:
        seen.append([one.twin for one in examples])
        return prefixes.stream(examples, linear)

    bank = new(model, [Spec(1)], blocks_from=2)
    task = Task(replies, Config(steps=6, examples_per_step=2, together=2))
    list(Training(trunk, bank, [task], objective=graded(LABELS), stream=stream).run())
    assert len(seen) == 6
    assert all(len(set(twins)) == 1 for twins in seen)


@pytest.mark.parametrize(
    ("config", "message"),
    [(Config(together=2, examples_per_step=3), "multiples of 2"), (Config(until=0.5), "end by recall")],
)
def test_a_training_that_cannot_be_had_is_refused(config: Config, message: str) -> None:
    model = tiny()
    trunk, bank = Trunk(model, 2), new(model, [Spec(1)], blocks_from=2)
    tasks = [Task([reply(5, 1), reply(5, 2)], config)]
    with pytest.raises(InputError, match=message):
        Training(trunk, bank, tasks, stream=Prefixes(trunk).stream)


def test_twins_need_an_objective_that_gives_margins() -> None:
    model = tiny()
    trunk, bank = Trunk(model, 2), new(model, [Spec(1)], blocks_from=2)
    task = Task([reply(5, 1), reply(5, 2)], Config(twins=Twins()))
    with pytest.raises(InputError, match="gives margins"):
        list(Training(trunk, bank, [task], stream=cast("Any", Prefixes(trunk).stream)).run())
