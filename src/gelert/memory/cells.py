"""A sweep: one adapter for each rank, length, method and seed, trained many at a time and certified.

A run is a folder: ``sweep.json`` says what was asked, ``cells.jsonl`` has a record of each finished cell, ``tokens/``
each token's loss, ``partial/`` what an interrupted group of cells had reached. The same command goes on.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from gelert.core import records
from gelert.core.errors import InputError, RecordError
from gelert.lm import bank
from gelert.lm.bank import TARGETS, Bank, Spec
from gelert.lm.certificate import Certificate, certify
from gelert.lm.curriculum import published
from gelert.lm.loop import Config, Step, Task, Training
from gelert.lm.model import Dtype, LanguageModel, load
from gelert.lm.objective import Example
from gelert.lm.trunk import Prefill, Trunk
from gelert.lm.weights import METHODS, OnlyThreshold
from gelert.memory.corpora import example, graded, passage, phone_book, random_tokens, read_facts
from gelert.memory.keep import finish
from gelert.memory.law import Point
from gelert.memory.spread import Tell, processes
from gelert.spread.cluster import as_done
from gelert.spread.workers import reachable

KIND, VERSION = "memory-cell", 1
Corpus = Literal["random", "phone-book", "text"]
Numeric = Literal["fp32", "paper"]
Placement = Literal["branch", "linear"]


@dataclass(frozen=True)
class Cell:
    """One adapter of a sweep."""

    length: int
    """Tokens of a text, or entries of a phone book."""
    rank: int
    method: str
    """A name in ``gelert.lm.weights.METHODS``."""
    seed: int
    """Of the adapter, the order and dropout; texts have a seed of their own."""

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.method}-l{self.length}-r{self.rank}-s{self.seed}"


@dataclass(frozen=True)
class Setup:
    """What all cells of a sweep share."""

    model: str = "smollm2-135m"
    dtype: Dtype = "float32"
    """Of the frozen weights."""
    corpus: Corpus = "random"
    text: str = ""
    """File of the corpus ``text``."""
    noise: float = 0.0
    """Share of random tokens put into a text."""
    text_seed: int = 0
    block: int = 20
    """Beside which the branch lies, or from which linear adapters are put; counted from 0."""
    placement: Placement = "branch"
    numeric: Numeric = "fp32"
    """``paper``: factors and optimiser in bfloat16 and dropout 0.1; ``fp32``: in float32 and none."""
    steps: int = 300
    learning_rate: float = 1e-2
    batch: int = 10
    """Entries of a phone book in one step."""
    until: float | None = None
    """Leave once all tokens are recalled with a probability above this."""
    group_tokens: int = 1024
    """Tokens in one step of all cells that are trained together."""


@dataclass(frozen=True)
class Record:
    """What became of a cell."""

    cell: Cell
    tokens: int
    """That are to be recalled."""
    initial: float
    """Mean loss before, nats a token."""
    final: float
    accuracy: float
    """Share of tokens that greedy decoding gives before its first error; the mean over entries."""
    exact: float
    """Share of texts recalled whole: 0 or 1 for one text."""
    first_failure: int | None
    """Of one text, counted from 0."""
    doubtful: int | None
    """First token with p up to 1/2."""
    confident: int
    """Tokens with p > 1/2."""
    violations: int
    """Of these, how many are not the most probable one."""
    steps: int
    token_steps: int
    """Supervised tokens, each time they were in a step."""
    seconds: float
    """Of its group, shared by token-steps."""

    @property
    def point(self) -> Point:
        """For the law."""
        return Point(self.cell.rank, self.tokens, self.initial, self.final)


def grid(
    ranks: Sequence[int], lengths: Sequence[int], methods: Sequence[str] = ("sft",), seeds: Sequence[int] = (0,)
) -> list[Cell]:
    """Every combination, the cheapest first.

    Raises:
        InputError: a method is unknown, a number is not positive, or a list is empty.
    """
    if unknown := sorted(set(methods) - set(METHODS)):
        raise InputError(f"expected methods among {', '.join(METHODS)}, got {', '.join(unknown)}")
    if not (ranks and lengths and methods and seeds) or min([*ranks, *lengths]) < 1:
        raise InputError("expected at least one rank and one length, each of 1 or more")
    return [
        Cell(length, rank, method, seed)
        for length, method, seed, rank in itertools.product(sorted(set(lengths)), methods, seeds, sorted(set(ranks)))
    ]


Found = list[tuple[Record, list[Certificate]]]
"""Of each cell of a group."""

Progress = Callable[[int, int, str], None]
"""Told the token-steps that are done, all of them, and what is being done."""


class Sweep:
    """A folder of cells.

    Args:
        folder: made where it is not there.
        setup: what the cells share.
        cells: all that are wanted; those with a record are not done again.

    Raises:
        InputError: the folder holds a sweep of another setup.
    """

    def __init__(self, folder: Path, setup: Setup, cells: Sequence[Cell]) -> None:
        self.folder, self.setup, self.cells = folder, setup, list(cells)
        (folder / "tokens").mkdir(parents=True, exist_ok=True)
        (folder / "partial").mkdir(exist_ok=True)
        asked = records.canonical(asdict(setup))
        path = folder / "sweep.json"
        if path.exists() and path.read_text(encoding="utf-8") != asked + "\n":
            raise InputError(f"expected the setup that the sweep in {folder} was begun with, got another: see {path}")
        path.write_text(asked + "\n", encoding="utf-8")

    def missing(self) -> list[Cell]:
        """Cells without a record."""
        done = {record.cell for record in read(self.folder)}
        return [cell for cell in self.cells if cell not in done]

    def run(self, progress: Progress, *, workers: int = 1, ray: str = "") -> None:
        """Train and certify what is missing; an interrupt keeps what was reached.

        Args:
            progress: told of every step here, every half second of other processes, every group of a cluster.
            workers: processes on this machine.
            ray: address of a Ray cluster to do it instead, ``local`` for one of this machine.

        Raises:
            MissingError: a cluster is asked for and Ray is not installed.
        """
        missing = self.missing()
        if not missing:
            return
        groups = list(grouped(self.setup, missing))
        clock = _Clock(progress, [sum(map(self._cost, group)) for group in groups])
        for number, found in self._results(groups, clock, workers, ray):
            self._keep(found)
            clock.tell(number, None, "")

    def _results(
        self, groups: Sequence[list[Cell]], clock: "_Clock", workers: int, ray: str
    ) -> Iterator[tuple[int, Found]]:
        if ray:
            setup = replace(self.setup, model=reachable(self.setup.model), text=reachable(self.setup.text))
            yield from as_done(partial(trainer, setup, self.folder.resolve()), groups, ray, cores=2)
        elif workers > 1:
            yield from processes(partial(train_group, self.setup, self.folder), groups, workers, clock.tell)
        else:
            bench = Bench(self.setup)
            for number, group in enumerate(groups):
                yield number, bench.train(group, self.folder, partial(clock.tell, number))

    def _keep(self, found: Found) -> None:
        for record, seen in found:
            np.savez_compressed(
                self.folder / "tokens" / f"{record.cell.name}.npz",
                losses=np.concatenate([np.array(one.losses, np.float32) for one in seen]),
                right=np.concatenate([np.array(one.right, np.bool_) for one in seen]),
                sizes=np.array([len(one.losses) for one in seen]),
            )
            records.append(self.folder / "cells.jsonl", KIND, VERSION, asdict(record))

    def _cost(self, cell: Cell) -> int:
        return tokens_a_step(self.setup, cell) * self.setup.steps


def read(folder: Path) -> list[Record]:
    """The records of a sweep.

    Raises:
        RecordError: a line is not one.
    """
    path = folder / "cells.jsonl"
    if not path.exists():
        return []
    shape = TypeAdapter(Record)
    try:
        return [shape.validate_python(row) for row in records.read(path, KIND, VERSION)]
    except ValidationError as fault:
        raise RecordError(f"expected the fields of a cell, got others: {fault} ({path})") from fault


def setup_of(folder: Path) -> Setup:
    """What the cells of a sweep share.

    Raises:
        InputError: the folder holds no sweep.
    """
    path = folder / "sweep.json"
    try:
        return TypeAdapter(Setup).validate_json(path.read_bytes())
    except (OSError, ValidationError) as fault:
        raise InputError(f"expected a sweep's folder with sweep.json, got: {fault} ({folder})") from fault


def tokens_a_step(setup: Setup, cell: Cell) -> int:
    """Supervised tokens of a cell in one step, roughly: an entry of a phone book has twelve."""
    return min(cell.length, setup.batch) * 12 if setup.corpus == "phone-book" else cell.length


def grouped(setup: Setup, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Cells that are trained together: neighbours in length, up to ``group_tokens`` a step."""
    group: list[Cell] = []
    for cell in sorted(cells, key=lambda one: (tokens_a_step(setup, one), one.method, one.seed, one.rank)):
        if group and tokens_a_step(setup, cell) * (len(group) + 1) > setup.group_tokens:
            yield group
            group = []
        group.append(cell)
    if group:
        yield group


def train_group(setup: Setup, folder: Path, cells: Sequence[Cell], tell: Tell) -> Found:
    """A group in a process of its own."""
    return Bench(setup).train(cells, folder, tell)


def trainer(setup: Setup, folder: Path) -> Callable[[Sequence[Cell]], Found]:
    """Trains groups on another machine, one after another, and tells nothing before the end of each."""
    bench = Bench(setup)
    return lambda cells: bench.train(cells, folder, lambda _done, _what: None)


class Bench:
    """A loaded model and the texts of a sweep, for one group after another."""

    def __init__(self, setup: Setup, model: LanguageModel | None = None) -> None:
        self.setup = setup
        self.model = model or load(setup.model, dtype="bfloat16" if setup.numeric == "paper" else setup.dtype)
        beside = setup.placement == "branch"
        self.trunk = Trunk(self.model, setup.block + 1 if beside else setup.block, branch=beside)

    def examples(self, length: int) -> list[Example]:
        """What a cell of this length is to recall."""
        setup, model = self.setup, self.model
        match setup.corpus:
            case "random":
                return [passage(model, random_tokens(model, length, setup.text_seed))]
            case "phone-book":
                return [example(model, fact) for fact in phone_book(length, setup.text_seed)]
            case "text":
                ids = model.encode(read_facts(Path(setup.text))[0].target)
                if len(ids) < length:
                    raise InputError(f"expected a text of {length} tokens, got {len(ids)} ({setup.text})")
                return [passage(model, graded(model, ids, setup.noise, setup.text_seed)[:length])]

    def adapters(self, cells: Sequence[Cell]) -> Bank:
        """New adapters, one for each cell."""
        setup = self.setup
        if setup.placement == "linear":
            return bank.new(
                self.model, [Spec(c.rank, seed=c.seed) for c in cells], blocks_from=setup.block, targets=TARGETS
            )
        dtype = torch.bfloat16 if setup.numeric == "paper" else torch.float32
        return bank.branches(self.model, [Spec(c.rank, c.rank, c.seed) for c in cells], setup.block, dtype=dtype)

    def config(self, cell: Cell) -> Config:
        """How a cell is trained: the published optimiser and schedule, over our number of steps."""
        setup = self.setup
        made = Config(
            steps=setup.steps,
            learning_rate=setup.learning_rate,
            warmup_steps=0,
            decay="linear",
            examples_per_step=setup.batch if setup.corpus == "phone-book" else 1,
            seed=cell.seed,
            rule=METHODS[cell.method],
            dropout=0.1 if setup.numeric == "paper" else 0.0,
            until=setup.until,
        )
        if cell.method == "memft-sw" and setup.corpus == "phone-book":
            epochs = max(5, setup.steps * setup.batch // cell.length)
            stages = published("qwen", 10 * cell.length).curriculum.scaled(epochs)
            return replace(made, rule=OnlyThreshold(when_empty="zero"), curriculum=stages)
        return made

    def train(self, cells: Sequence[Cell], folder: Path, report: Tell) -> Found:
        """Train a group, from where it was left, and certify it.

        Args:
            cells: the group.
            folder: of the sweep.
            report: told how many token-steps are done of it, and at what loss.
        """
        texts = {length: self.examples(length) for length in {cell.length for cell in cells}}
        adapters = self.adapters(cells)
        training = Training(self.trunk, adapters, [Task(texts[c.length], self.config(c)) for c in cells])
        key = hashlib.sha256("\n".join(cell.name for cell in cells).encode()).hexdigest()[:16]
        kept = folder / "partial" / f"{key}.pt"
        kept.parent.mkdir(parents=True, exist_ok=True)
        seconds = finish(training, kept, self._teller(cells, training, report))
        flat = [(number, one) for number, cell in enumerate(cells) for one in texts[cell.length]]
        numbers, examples = [number for number, _ in flat], [one for _, one in flat]
        prefill = training.prefill
        after = iter(certify(self.trunk, examples, adapters, numbers, prefill=prefill))
        before = {length: self._before(own, prefill) for length, own in texts.items()}
        weights = [taken * tokens_a_step(self.setup, c) for taken, c in zip(training.taken, cells, strict=True)]
        found: Found = []
        for number, cell in enumerate(cells):
            seen = [next(after) for _ in texts[cell.length]]
            share = weights[number] / max(1, sum(weights))
            found.append(
                (
                    _record(cell, before[cell.length], seen, training.taken[number], weights[number], seconds * share),
                    seen,
                )
            )
        kept.unlink(missing_ok=True)
        return found

    def _teller(self, cells: Sequence[Cell], training: Training, report: Tell) -> Callable[[Step], bool]:
        """Reports each step; a cell that has left counts as done."""
        sizes = [tokens_a_step(self.setup, cell) for cell in cells]

        def tell(step: Step) -> bool:
            taken = [self.setup.steps if end else n for n, end in zip(training.taken, training.left, strict=True)]
            live = [loss for loss in step.losses if loss is not None]
            what = f"{cells[0].name} and {len(cells) - 1} more, loss {sum(live) / len(live):.2f}"
            report(sum(size * n for size, n in zip(sizes, taken, strict=True)), what)
            return True

        return tell

    def _before(self, examples: Sequence[Example], prefill: Prefill) -> float:
        seen = certify(self.trunk, examples, None, [0] * len(examples), prefill=prefill)
        return sum(sum(one.losses) for one in seen) / sum(len(one.losses) for one in seen)


def _record(
    cell: Cell, initial: float, seen: Sequence[Certificate], steps: int, token_steps: int, seconds: float
) -> Record:
    tokens = sum(len(one.losses) for one in seen)
    alone = seen[0] if len(seen) == 1 else None
    return Record(
        cell=cell,
        tokens=tokens,
        initial=initial,
        final=sum(sum(one.losses) for one in seen) / tokens,
        accuracy=sum(one.accuracy for one in seen) / len(seen),
        exact=sum(one.recalled for one in seen) / len(seen),
        first_failure=alone.first_failure if alone else None,
        doubtful=alone.doubtful if alone else None,
        confident=sum(loss < math.log(2) for one in seen for loss in one.losses),
        violations=sum(one.violations for one in seen),
        steps=steps,
        token_steps=token_steps,
        seconds=seconds,
    )


class _Clock:
    """Adds up what groups tell, of which each costs what ``costs`` says."""

    def __init__(self, progress: Progress, costs: Sequence[int]) -> None:
        self.progress, self.costs, self.done = progress, costs, [0] * len(costs)

    def tell(self, group: int, done: int | None, what: str) -> None:
        """What has been done of a group, ``None`` for all."""
        self.done[group] = self.costs[group] if done is None else done
        self.progress(sum(self.done), sum(self.costs), what)
