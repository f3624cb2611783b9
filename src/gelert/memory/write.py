"""Write facts into an adapter until every token is certified, and certify any adapter against facts."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from gelert.core.records import canonical, digest
from gelert.lm import bank as banks
from gelert.lm import blocks, peft
from gelert.lm.bank import TARGETS, Bank, Spec
from gelert.lm.certificate import Certificate, certify
from gelert.lm.loop import Config, Step, Task, Training
from gelert.lm.model import LanguageModel
from gelert.lm.objective import Example
from gelert.lm.scoring import token_scores
from gelert.lm.session import Session, greedy
from gelert.lm.trunk import Trunk
from gelert.lm.weights import Likelihood, OnlyThreshold, Rule
from gelert.memory.corpora import Fact, example
from gelert.memory.keep import finish

STEP_TOKENS = 1024
"""Tokens of the texts in one step, about."""

PROOF = "memory.json"
"""File in an adapter's folder that says what it was certified to recall."""


@dataclass(frozen=True)
class Recipe:
    """How to write."""

    rank: int = 4
    """Of the first attempt; each further one doubles it and goes on from what was learned."""
    largest_rank: int = 64
    blocks: int = 6
    """How many of the last blocks carry the adapter."""
    passes: int = 50
    """Over all facts in the first attempt; each further one has half as many again."""
    least_steps: int = 150
    """In an attempt, however few the facts."""
    learning_rate: float = 1e-2
    method: str = "memft-ot"
    """``sft`` or ``memft-ot``: learn all tokens, or those that are not yet above ``until``."""
    until: float = 0.6
    """Every token's probability must be above this: over 1/2, so that other arithmetic changes nothing."""
    minutes: float = 60.0
    """Stop after this, with what is recalled by then."""
    seed: int = 0


@dataclass(frozen=True)
class Proof:
    """What an adapter recalls of some facts."""

    facts: int
    tokens: int
    recalled: int
    """Facts that greedy decoding gives whole, by one teacher-forced pass."""
    confident: int
    """Tokens with p > 1/2."""
    least: float
    """The smallest probability of a token."""
    missing: tuple[str, ...]
    """Queries of the facts that are not recalled."""
    other_before: float
    """Loss on other text without the adapter, nats a token."""
    other_after: float
    """The same with it: what the memory costs elsewhere."""
    decoded: int = 0
    """Facts that were decoded besides."""
    disagreements: int = 0
    """Of these, in how many decoding first fails elsewhere than the certificate says."""

    @property
    def whole(self) -> bool:
        """All facts are recalled."""
        return self.recalled == self.facts


Told = Callable[[int, int, str], None]
"""Told the steps that are done, all steps of this attempt, and how it stands."""


def write(model: LanguageModel, facts: Sequence[Fact], recipe: Recipe, out: Path, told: Told) -> Proof:
    """Train an adapter on ``facts`` until all are certified or the budget ends, and save it in PEFT's form.

    An interrupted call goes on when it is made again with the same facts and recipe.

    Args:
        model: the frozen model, in the type it will be used in.
        facts: what to recall.
        recipe: how.
        out: folder of the adapter; gets ``memory.json`` beside it.
        told: hears of each step.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    examples = [example(model, fact) for fact in facts]
    trunk = Trunk(model, max(0, model.layers - recipe.blocks))
    key = digest([model.fingerprint, asdict(recipe), [[fact.query, fact.target] for fact in facts]])[:16]
    adapter, attempt = _begin(model, trunk, recipe), 0
    while True:
        partial = out / f"partial-{key}-{attempt}.pt"
        training = Training(trunk, adapter, [Task(examples, _config(recipe, examples, attempt))])
        _attempt(training, partial, recipe.minutes * 60 - (time.monotonic() - started), attempt, told)
        seen = certify(trunk, examples, adapter, [0] * len(examples), prefill=training.prefill)
        over = time.monotonic() - started > recipe.minutes * 60
        rank = adapter.specs[0].rank
        if all(one.recalled for one in seen) or over or rank >= recipe.largest_rank:
            break
        adapter, attempt = banks.grown(model, adapter, min(2 * rank, recipe.largest_rank)), attempt + 1
    peft.save(model, adapter, 0, out)
    proof = _proof(trunk, adapter, facts, seen)
    record = {"proof": asdict(proof), "recipe": asdict(recipe), "model": model.fingerprint, "facts": digest(key)}
    (out / PROOF).write_text(canonical(record) + "\n", encoding="utf-8")
    for left in out.glob("partial-*.pt"):
        left.unlink()
    return proof


def check(model: LanguageModel, facts: Sequence[Fact], folder: Path, *, decode: int = 0) -> Proof:
    """Certify the adapter in ``folder``, ours or another's in PEFT's form, against ``facts``.

    Args:
        model: the model it belongs to.
        facts: what it should recall.
        folder: with ``adapter_config.json``.
        decode: of how many facts, evenly spread, to decode the answer as well.
    """
    adapter = peft.load(model, [folder])
    trunk = Trunk(model, min(int(name.split(".")[0]) for name in adapter.pairs))
    examples = [example(model, fact) for fact in facts]
    seen = certify(trunk, examples, adapter, [0] * len(examples))
    chosen = [at * len(facts) // decode for at in range(min(decode, len(facts)))]
    wrong = sum(decoded_failure(model, adapter, examples[at]) != seen[at].first_failure for at in chosen)
    return _proof(trunk, adapter, facts, seen, decoded=len(chosen), disagreements=wrong)


def decoded_failure(model: LanguageModel, adapter: Bank, one: Example, number: int = 0) -> int | None:
    """The first supervised token of ``one`` that greedy decoding through adapter ``number`` gets wrong, from 0."""
    start = one.supervised[0]
    with torch.no_grad():
        session = Session(model, linear=adapter.linear([number]))
        found = greedy(session, one.ids[:start], len(one.ids) - start)
    return next(
        (at for at, (own, wanted) in enumerate(zip(found, one.ids[start:], strict=True)) if own != wanted), None
    )


def other_loss(trunk: Trunk, linear: blocks.Linear) -> float:
    """Mean loss on text that nobody asked to remember, nats a token."""
    model = trunk.model
    text = files("gelert.memory").joinpath("other.txt").read_text(encoding="utf-8")
    losses: list[Tensor] = []
    with torch.no_grad():
        for part in text.split("\n\n"):
            ids = [token for token in [model.tokenizer.bos_token_id] if isinstance(token, int)] + model.encode(part)
            stream = trunk.upper(trunk.activations(ids)[None], linear=linear)[0]
            losses.append(token_scores(model, stream[:-1], torch.tensor(ids[1:], device=model.device))[0])
    return float(torch.cat(losses).mean())


def _begin(model: LanguageModel, trunk: Trunk, recipe: Recipe) -> Bank:
    spec = Spec(recipe.rank, alpha=recipe.rank, seed=recipe.seed)
    return banks.new(model, [spec], blocks_from=trunk.layer, targets=TARGETS)


def _config(recipe: Recipe, examples: Sequence[Example], attempt: int) -> Config:
    longest = max(len(one.ids) for one in examples)
    batch = max(1, min(len(examples), STEP_TOKENS // longest))
    passes = recipe.passes * 1.5**attempt
    steps = max(recipe.least_steps, math.ceil(passes * len(examples) / batch))
    rule: Rule = Likelihood()
    if recipe.method == "memft-ot":
        rule = OnlyThreshold(-math.log(recipe.until), when_empty="zero")
    return Config(
        steps=steps,
        learning_rate=recipe.learning_rate,
        warmup_steps=10,
        decay="linear",
        examples_per_step=batch,
        seed=recipe.seed + attempt,
        rule=rule,
        until=recipe.until,
    )


def _attempt(training: Training, partial: Path, seconds: float, attempt: int, told: Told) -> None:
    ends = time.monotonic() + seconds
    steps, rank = training.tasks[0].config.steps, training.bank.specs[0].rank

    def each(step: Step) -> bool:
        told(step.number, steps, f"attempt {attempt + 1}, rank {rank}, loss {step.losses[0] or 0.0:.3f}")
        return time.monotonic() < ends

    finish(training, partial, each)


def _proof(
    trunk: Trunk,
    adapter: Bank,
    facts: Sequence[Fact],
    seen: Sequence[Certificate],
    *,
    decoded: int = 0,
    disagreements: int = 0,
) -> Proof:
    losses = [loss for one in seen for loss in one.losses]
    return Proof(
        facts=len(facts),
        tokens=len(losses),
        recalled=sum(one.recalled for one in seen),
        confident=sum(loss < math.log(2) for loss in losses),
        least=math.exp(-max(losses)),
        missing=tuple(fact.query for fact, one in zip(facts, seen, strict=True) if not one.recalled),
        other_before=other_loss(trunk, blocks.plain),
        other_after=other_loss(trunk, adapter.linear([0])),
        decoded=decoded,
        disagreements=disagreements,
    )
