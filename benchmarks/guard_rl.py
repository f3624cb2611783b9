"""Does a guard learn its diagnosis from its own answers? A tiny model is taught the form, then learns by reward alone.

Three leaves an axis, runs out of the worlds, shown short; no family of tasks is in both training and test. The model (a
Llama of a few blocks with a tokenizer made for these texts) first sees worked answers until it keeps the form and is
right more often than chance, and then learns by reward alone. Printed: the share of answers that are right on each
axis, before and after, on families that neither phase has seen, beside what the most frequent leaf would reach.

    python benchmarks/guard_rl.py toy                          # all of it, on one core
    python benchmarks/guard_rl.py real --model smollm2-135m    # seconds per step of a real model, no learning yet
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from gelert.core import records
from gelert.core.example import Example, Gold
from gelert.core.seeds import stream
from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, builtin
from gelert.core.trajectory import Origin, Role
from gelert.evals.benches import Labelled, group_folds
from gelert.forge.guard_rl import Report, train
from gelert.forge.guard_rl_prompts import shortened
from gelert.forge.guard_rl_recipe import Adapter, Engine, Recipe
from gelert.forge.guard_rl_reward import AXES, CONTRACT
from gelert.forge.guard_rl_trainer import LOG, LOG_KIND
from gelert.forge.sample import Item, Outcome
from gelert.forge.synthesise import Synthesiser
from gelert.guard.prompts.agentdog import render
from gelert.lm import toy
from gelert.worlds.catalogue import catalogue
from gelert.worlds.families import Family
from gelert.worlds.tasks import Task, tasks

LEAVES = {
    Axis.RISK_SOURCE: ("direct_prompt_injection", "indirect_prompt_injection", "tool_description_injection"),
    Axis.FAILURE_MODE: (
        "choosing_malicious_tool",
        "unauthorized_information_disclosure",
        "unconfirmed_or_over_privileged_action",
    ),
    Axis.HARM: (
        "financial_and_economic_harm",
        "privacy_and_confidentiality_harm",
        "security_and_system_integrity_harm",
    ),
}
"""Those three of each axis that the most families of tasks share."""

SHOWN = 100
"""Characters of each text of a run."""


FIXED = 0.03
"""A line that stands in this share of the runs' texts is one token."""

REASONING = "<Analysis>The agent did what it should never have done, and harm came of it.</Analysis>"


@dataclass(frozen=True, slots=True)
class Worked:
    """A run and a worked answer about it."""

    item: Labelled
    answer: str


def taxonomy() -> Taxonomy:
    """The leaves of the demonstration."""
    return Taxonomy(tuple(leaf for leaf in builtin().leaves if leaf.slug in LEAVES[leaf.axis]))


def runs(n: int, seed: int) -> list[Worked]:
    """Unsafe runs of the leaves, every failure mode equally often."""
    families = catalogue(())
    shelves: dict[Diagnosis, list[Task]] = {}
    for family in families.values():
        for task in tasks(family):
            if task.risk and all(task.risk.diagnosis.on(axis) in LEAVES[axis] for axis in Axis):
                shelves.setdefault(task.risk.diagnosis, []).append(task)
    random = stream(seed, "guard rl")
    for shelf in shelves.values():
        random.shuffle(shelf)
    chosen: list[Task] = []
    while len(chosen) < n:
        failure = LEAVES[Axis.FAILURE_MODE][len(chosen) % 3]
        tuples = sorted((found for found in shelves if found.failure_mode == failure), key=str)
        shelf = shelves[random.choice(tuples)]
        chosen.append(shelf[random.randrange(len(shelf))])
    return [_worked(number, task, families) for number, task in enumerate(chosen)]


def _worked(number: int, task: Task, families: Mapping[str, Family]) -> Worked:
    """A run of which only the request and the steps that decide are shown, and its worked answer."""
    record = Synthesiser(families).make(Item(number, number, task, Outcome.UNSAFE, "victim", number))
    run = record.run
    assert run is not None
    deciding = {record.truth.entered, record.truth.failed, record.truth.harmed}
    request = next(at for at, step in enumerate(run.steps) if step.role is Role.USER)
    steps = tuple(step for at, step in enumerate(run.steps) if at == request or at in deciding)
    called = {call.name for step in steps for call in step.calls}
    longest = max(run.tools, key=lambda tool: len(tool.description))
    tools = tuple(replace(tool, parameters="{}") for tool in run.tools if tool.name in called or tool is longest)
    shown = shortened(replace(run, steps=steps, tools=tools, origin=Origin("worlds/runs.jsonl", number)), SHOWN)
    gold = Gold(unsafe=True, diagnosis=Diagnosis(*record.diagnosis), group=record.family)
    names = record.rationale.splitlines()[-3:]
    return Worked(Labelled(Example(shown, gold), "worlds"), "\n".join([REASONING, *names]))


def tiny(worked: Sequence[Worked], folder: Path, *, vocabulary: int, width: int, layers: int, seed: int) -> None:
    """A small Llama with random weights, and a tokenizer made for these texts: a line that recurs is one token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    texts = [text for one in worked for text in (_prompt(one), one.answer)]
    lines = Counter(line for text in texts for line in set(text.split("\n")) if len(line) > 3)
    fixed = sorted(line for line, count in lines.items() if count >= FIXED * len(worked))
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(toy.SPECIALS), initial_alphabet=letters, show_progress=False
    )
    rest = ("\n".join(line for line in text.split("\n") if line not in fixed) for text in texts)
    words.train_from_iterator(rest, trainer)
    names = {"bos_token": toy.SPECIALS[1], "eos_token": toy.SPECIALS[2], "pad_token": toy.SPECIALS[0]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=toy.CHATML, **names)
    tokenizer.add_tokens(fixed)
    told = toy.config("llama", layers=layers, width=width)
    told.update({"vocab_size": len(tokenizer), "initializer_range": 0.02, "pad_token_id": 0})
    torch.manual_seed(seed)
    LlamaForCausalLM(cast("Any", told)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def teach(worked: Sequence[Worked], model: Path, out: Path, *, steps: int, seed: int) -> None:
    """Supervised steps on worked answers."""
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": _prompt(one)}],
            "completion": [{"role": "assistant", "content": one.answer}],
        }
        for one in worked
    ]
    config = SFTConfig(
        output_dir=str(out / "trainer"),
        max_steps=steps,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        per_device_train_batch_size=16,
        seed=seed,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SFTTrainer(
        model=str(model),
        processing_class=AutoTokenizer.from_pretrained(model),
        args=config,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))


def on_toy(folder: Path, *, n: int, taught: int, steps: int, seed: int) -> None:
    clock = Clock()
    worked = runs(n, seed)
    recipe = Recipe(
        seed=seed,
        steps=steps,
        questions=8,
        learning_rate=3e-4,
        prompt_tokens=512,
        answer_tokens=16,
        folds=3,
        engine=Engine(answers_at_once=64),
    )
    out = set(group_folds([one.item.group for one in worked], recipe.folds, seed)[0])
    seen = [one for at, one in enumerate(worked) if at not in out]
    clock.tell(f"{n} runs made, {len(seen)} of them of families that may be seen")
    tiny(seen, folder / "random", vocabulary=2000, width=128, layers=3, seed=seed)
    teach(seen, folder / "random", folder / "taught", steps=taught, seed=seed)
    clock.tell(f"{taught} supervised steps")
    items = [one.item for one in worked]
    report, _ = train(items, str(folder / "taught"), folder / "rl", recipe, taxonomy=taxonomy(), tell=clock.step)
    clock.tell(f"{steps} steps by reward")
    show(report)
    course(folder / "rl", every=max(1, steps // 6))


def on_real(folder: Path, model: str, *, steps: int, seed: int) -> None:
    clock = Clock()
    engine = Engine(answers_at_once=8)
    recipe = Recipe(
        seed=seed,
        steps=steps,
        questions=1,
        prompt_tokens=1024,
        answer_tokens=64,
        folds=2,
        held_out=1,
        adapter=Adapter(merge=False),
        engine=engine,
    )
    items = [one.item for one in runs(24, seed)]
    clock.tell("runs made")
    report, _ = train(items, model, folder / "rl", recipe, taxonomy=taxonomy(), tell=clock.step)
    clock.tell(f"{steps} steps of {recipe.answers} answers of at most {recipe.answer_tokens} tokens")
    show(report)


class Clock:
    """Says how long each part took, on the clock and of one core."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def tell(self, what: str) -> None:
        """How long ``what`` took since the last time."""
        wall, core = self._last
        self._last = time.perf_counter(), time.process_time()
        print(f"{what}: {self._last[0] - wall:.1f} s, {self._last[1] - core:.1f} s of a core", flush=True)

    def step(self, number: int) -> None:
        """The same for a step of learning, at times."""
        if number <= 3 or number % 10 == 0:
            self.tell(f"to step {number}")


def show(report: Report) -> None:
    print(f"\n{report.runs} runs learnt from, {report.held_out} held out, {report.steps} steps")
    print("| held out | most frequent leaf | before | after |\n|---|---|---|---|")
    for axis in AXES:
        before, after = report.before.accuracy[axis], report.after.accuracy[axis]
        print(f"| {axis.value} | {report.floor[axis]:.3f} | {before:.3f} | {after:.3f} |")
    print(f"| in form | | {report.before.in_form:.3f} | {report.after.in_form:.3f} |", flush=True)


def course(folder: Path, *, every: int) -> None:
    """What the answers to the runs learnt from were worth on the way, on average over ``every`` steps."""
    rows = [cast("dict[str, float]", row) for row in records.read(folder / LOG, *LOG_KIND)]
    names = [*(f"accuracy/{axis.value}" for axis in AXES), "in_form", "kept_groups", "kl"]
    print("\n| to step | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for end in range(every, len(rows) + 1, every):
        means = [sum(row[name] for row in rows[end - every : end]) / every for name in names]
        print(f"| {end} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |", flush=True)


def _prompt(one: Worked) -> str:
    (message,) = render(CONTRACT, one.item.example.trajectory, taxonomy())
    return message.content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["toy", "real"])
    parser.add_argument("--runs", type=int, default=1400)
    parser.add_argument("--taught", type=int, default=120, help="supervised steps before")
    parser.add_argument("--steps", type=int, help="by reward; 120 of the toy, 3 of a real model")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if options.what == "toy":
            on_toy(folder, n=options.runs, taught=options.taught, steps=options.steps or 120, seed=options.seed)
        else:
            on_real(folder, options.model, steps=options.steps or 3, seed=options.seed)


if __name__ == "__main__":
    main()
