"""The one training loop: many adapters at once on one frozen trunk; it yields steps, callers print, save and stop.

Each adapter has a task: its own texts, rule, schedule and end. Losses are summed over adapters, gradients are clipped
adapter by adapter, and each has its own optimiser state and dropout stream, so each is trained exactly as it would be
alone. An adapter that is done leaves the batch, and the rest costs less.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal, cast

import torch
from torch import Tensor

from gelert.core.errors import InputError
from gelert.core.seeds import stream, stream_seed
from gelert.lm import blocks
from gelert.lm.adam import Adam
from gelert.lm.bank import Bank, Drop
from gelert.lm.certificate import certify
from gelert.lm.curriculum import Curriculum, order
from gelert.lm.objective import Example, Margins, Objective, Scored, Twins, nll, twin_loss
from gelert.lm.trunk import Prefill, Trunk
from gelert.lm.weights import Likelihood, Rule, Window, settled, weighted_mean, weights

Stream = Callable[[Sequence[Example], blocks.Linear], Tensor]
"""The residual stream after the last block, [B, n, width], at the tokens of the examples that the rows are."""


@dataclass(frozen=True)
class Config:
    """How to train one adapter."""

    steps: int = 200
    learning_rate: float = 1e-3
    warmup_steps: int = 10
    """The rate rises linearly over these."""
    decay: Literal["cosine", "linear"] = "cosine"
    """Then it falls as a cosine to a tenth, or linearly to zero."""
    clip_norm: float = 1.0
    """Largest gradient norm."""
    examples_per_step: int = 4
    seed: int = 0
    """Of the order of the examples and of dropout."""
    rule: Rule = Likelihood()
    """How much each token counts."""
    curriculum: Curriculum | None = None
    """Learn a growing part of the examples, in one fixed order; else all, shuffled anew at each pass."""
    dropout: float = 0.0
    """Share of what the adapter adds that is set to zero."""
    until: float | None = None
    """Leave once every supervised token is the most probable one, with a probability above this."""
    together: int = 1
    """So many examples that follow one another always come together: twins. Without a curriculum."""
    twins: Twins | None = None
    """Also set twins that come together apart; needs an objective that gives margins."""


@dataclass(frozen=True)
class Task:
    """What one adapter learns, and how."""

    examples: Sequence[Example]
    config: Config


@dataclass(frozen=True)
class Step:
    """What one step did; for each adapter, ``None`` where it had left."""

    number: int
    """Counted from 1."""
    losses: tuple[float | None, ...]
    """Weighted mean loss before the step."""
    learning_rates: tuple[float | None, ...]
    gradient_norms: tuple[float | None, ...]
    """Before clipping."""
    shares: tuple[float | None, ...]
    """Supervised tokens that had a weight, as a share of all."""


@dataclass(frozen=True)
class _Rows:
    """The rows of one step: which adapter each goes through and which text it is."""

    adapters: list[int]
    examples: list[Example]
    documents: list[int]
    """Number of each text among those of all tasks."""

    def of(self, adapter: int) -> slice:
        first = self.adapters.index(adapter)
        return slice(first, first + self.adapters.count(adapter))


class Training:
    """Training of all adapters of ``bank``, in place.

    Args:
        trunk: the frozen model and where its trunk ends; adapters must be above.
        bank: the adapters.
        tasks: what each learns.
        objective: the losses of a batch.
        stream: what runs the blocks above the trunk; by default the trunk, over all tokens of an example.

    Raises:
        InputError: there are no examples or not as many tasks as adapters, an adapter lies inside the trunk, or what
            comes together does not go into the steps.
    """

    def __init__(
        self,
        trunk: Trunk,
        bank: Bank,
        tasks: Sequence[Task],
        *,
        objective: Objective = nll,
        stream: Stream | None = None,
    ) -> None:
        if len(tasks) != len(bank.specs) or not all(task.examples for task in tasks):
            raise InputError(f"expected at least one example for each of {len(bank.specs)} adapters, got fewer")
        if below := [name for name in bank.pairs if not trunk.carries(name)]:
            raise InputError(f"expected adapters above the trunk's {trunk.layer} blocks, got {below[0]!r}")
        if stream is not None and any(task.config.until is not None for task in tasks):
            raise InputError("expected no end by recall where something else than the trunk runs the blocks above it")
        for task in tasks:
            if len(task.examples) % task.config.together or task.config.examples_per_step % task.config.together:
                sizes = f"{len(task.examples)} examples, {task.config.examples_per_step} a step"
                raise InputError(f"expected multiples of {task.config.together}, which come together, got {sizes}")
        self.trunk, self.bank, self.tasks, self.objective = trunk, bank, list(tasks), objective
        own = [] if stream else [example.ids for task in tasks for example in task.examples]
        self.prefill = Prefill(trunk, own)
        self._stream = stream or self._from_trunk
        self._shares: dict[int, float] = {}
        self.done = 0
        self.taken = [0] * len(tasks)
        """Steps of each adapter."""
        self.certified: list[bool] = [False] * len(tasks)
        """Which adapters have left because all their texts are recalled."""
        self.left: list[bool] = [task.config.steps == 0 for task in tasks]
        self._first = [0, *accumulate(len(task.examples) for task in tasks)]
        self._window = Window.fresh((self._first[-1],), trunk.model.device)
        self._right = torch.zeros(self._first[-1], dtype=torch.bool)
        self._orders = [_batches(task) for task in tasks]
        self._adam = Adam(bank.parameters())

    def run(self) -> Iterator[Step]:
        """Take the steps that are left, yielding after each."""
        while not all(self.left):
            step = self._step()
            if step is not None:
                yield step

    def state(self) -> dict[str, object]:
        """All that ``restore`` needs to go on exactly, for ``torch.save``."""
        return {
            "done": self.done,
            "taken": self.taken,
            "certified": self.certified,
            "left": self.left,
            "factors": self.bank.parameters(),
            "adam": self._adam.state(),
            "window": vars(self._window),
            "right": self._right,
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from ``state``, taken from a training of the same shape."""
        for own, kept in zip(self.bank.parameters(), cast("list[Tensor]", state["factors"]), strict=True):
            own.copy_(kept)
        self._adam.restore(**cast("dict[str, list[Tensor]]", state["adam"]))  # pyright: ignore[reportArgumentType]
        self._window = Window(**cast("dict[str, Tensor]", state["window"]))
        self._right = cast("Tensor", state["right"])
        self.done = cast("int", state["done"])
        self.taken, self.certified, self.left = (
            list(cast("list[int]", state["taken"])),
            list(cast("list[bool]", state["certified"])),
            list(cast("list[bool]", state["left"])),
        )
        self._orders = [islice(_batches(task), taken, None) for task, taken in zip(self.tasks, self.taken, strict=True)]

    def _step(self) -> Step | None:
        """One step, or ``None`` where all that were left have reached their end before it."""
        rows = self._rows([number for number, left in enumerate(self.left) if not left])
        hidden = self._stream(rows.examples, self.bank.linear(rows.adapters, self._drop(rows)))
        scored = self.objective(self.trunk.model, hidden, rows.examples)
        losses = self._losses(rows, scored)
        if not losses:
            return None
        for factor in self.bank.parameters():
            factor.grad = None
        torch.stack(list(losses.values())).sum().backward()
        moved = list(losses)
        norms = _clip(self.bank.parameters(), moved, [self.tasks[number].config.clip_norm for number in moved]).tolist()
        rates = [learning_rate(self.tasks[number].config, self.taken[number]) for number in moved]
        # A step without any weight has no gradient: the schedule goes on and the adapter stays where it is.
        self._adam.step(
            [number for number, norm in zip(moved, norms, strict=True) if norm > 0],
            [rate for rate, norm in zip(rates, norms, strict=True) if norm > 0],
        )
        self.done += 1
        for number in moved:
            self.taken[number] += 1
            self.left[number] = self.taken[number] >= self.tasks[number].config.steps
        means = dict(zip(moved, torch.stack([loss.detach() for loss in losses.values()]).tolist(), strict=True))
        every = range(len(self.tasks))
        sizes, strengths = dict(zip(moved, norms, strict=True)), dict(zip(moved, rates, strict=True))
        return Step(
            self.done,
            tuple(means.get(number) for number in every),
            tuple(strengths.get(number) for number in every),
            tuple(sizes.get(number) for number in every),
            tuple(self._shares[number] if number in means else None for number in every),
        )

    def _from_trunk(self, examples: Sequence[Example], linear: blocks.Linear) -> Tensor:
        return self.trunk.upper(self.prefill.batch([example.ids for example in examples]), linear=linear)

    def _rows(self, live: Sequence[int]) -> _Rows:
        rows = _Rows([], [], [])
        for number in live:
            for at in next(self._orders[number]):
                rows.adapters.append(number)
                rows.examples.append(self.tasks[number].examples[at])
                rows.documents.append(self._first[number] + at)
        return rows

    def _losses(self, rows: _Rows, scored: Scored) -> dict[int, Tensor]:
        """The loss of each adapter that goes on; those that are at their end leave."""
        sizes = scored.sizes
        counted = torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None]
        counted = counted.to(scored.losses.device)
        losses, right, own = (
            torch.zeros(counted.shape, dtype=values.dtype, device=values.device).masked_scatter(counted, values)
            for values in (scored.losses, scored.right, scored.weights)
        )
        ends = self._ends(rows, losses.detach(), right, counted)
        found: dict[int, Tensor] = {}
        for number in dict.fromkeys(rows.adapters):
            if ends.get(number):
                continue
            part, rule = rows.of(number), self.tasks[number].config.rule
            learned = self._weighed(rule, rows.documents[part], losses[part], right[part], counted[part])
            weighted, stop = settled(rule, (learned * own[part]).flatten(), counted[part].flatten())
            if bool(stop):
                self.left[number] = True
            else:
                self._shares[number] = float((weighted > 0).sum() / counted[part].sum())
                found[number] = weighted_mean(losses[part].flatten(), weighted) + self._apart(number, rows, scored)
        return found

    def _apart(self, number: int, rows: _Rows, scored: Scored) -> Tensor | float:
        """What the twins among an adapter's rows add to its loss."""
        twins, part = self.tasks[number].config.twins, rows.of(number)
        if twins is None:
            return 0.0
        if scored.margins is None:
            raise InputError("expected an objective that gives margins, for twins to be set apart by")
        margins = Margins(scored.margins.values[part], scored.margins.unsafe[part])
        return twins.weight * twin_loss(margins, [example.twin for example in rows.examples[part]], twins.form)

    def _weighed(self, rule: Rule, documents: Sequence[int], losses: Tensor, right: Tensor, counted: Tensor) -> Tensor:
        at = torch.tensor(list(documents), device=losses.device)
        before = Window(self._window.anchor[at], self._window.stayed[at], self._window.expansion[at])
        found, after = weights(rule, losses, right, before, counted=counted)
        for kept, new in zip(vars(self._window).values(), vars(after).values(), strict=True):
            kept[at] = new
        return found

    def _ends(self, rows: _Rows, losses: Tensor, right: Tensor, counted: Tensor) -> dict[int, bool]:
        """Which adapters have recalled all their texts, as they are now; they leave.

        A step that holds all texts of an adapter, without dropout, is itself the proof; else all are looked at once
        each has passed at its last visit.
        """
        found: dict[int, bool] = {}
        for number in dict.fromkeys(rows.adapters):
            config = self.tasks[number].config
            if config.until is None:
                continue
            part = rows.of(number)
            passed = (right[part] & (losses[part] < -math.log(config.until)) | ~counted[part]).all(-1).cpu()
            every = slice(self._first[number], self._first[number + 1])
            self._right[torch.tensor(rows.documents[part])] = passed
            found[number] = bool(self._right[every].all())
            whole = len(set(rows.documents[part])) == len(self.tasks[number].examples) and not config.dropout
            if found[number] and not whole:
                self._right[every] = torch.tensor(self._passes(number, config.until))
                found[number] = bool(self._right[every].all())
            if found[number]:
                self.left[number] = self.certified[number] = True
        return found

    def _passes(self, number: int, until: float) -> list[bool]:
        examples = self.tasks[number].examples
        seen = certify(self.trunk, examples, self.bank, [number] * len(examples), prefill=self.prefill)
        return [one.recalled and max(one.losses) < -math.log(until) for one in seen]

    def _drop(self, rows: _Rows) -> Drop | None:
        """Dropout of what each adapter adds, from a stream of its own."""
        rates = [self.tasks[number].config.dropout for number in rows.adapters]
        if not any(rates):
            return None

        def drop(name: str, added: Tensor) -> Tensor:
            kept = torch.ones(added.shape, dtype=added.dtype)
            for number in dict.fromkeys(rows.adapters):
                config, part = self.tasks[number].config, rows.of(number)
                seed = stream_seed(config.seed, "dropout", name, self.taken[number])
                # Drawn row by row and to the row's own length, so that others' padding changes nothing.
                generator = torch.Generator().manual_seed(seed)
                for row in range(part.start, part.stop):
                    size = (len(rows.examples[row].ids), added.shape[-1])
                    drawn = torch.rand(size, generator=generator) >= config.dropout
                    kept[row, : size[0]] = drawn.to(added.dtype) / (1 - config.dropout)
            return added * kept.to(added.device)

        return drop


def learning_rate(config: Config, done: int) -> float:
    """The rate of the step after ``done`` steps: linear warm-up, then the decay."""
    if done < config.warmup_steps:
        return config.learning_rate * (done + 1) / config.warmup_steps
    share = (done - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.decay == "linear":
        return config.learning_rate * (1 - share)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def _batches(task: Task) -> Iterator[list[int]]:
    """Which examples each step takes, without end: a function of the task alone."""
    config, count = task.config, len(task.examples)
    if config.curriculum is None:
        stream_ = _shuffles(config.seed, count, config.together)
        while True:
            yield list(islice(stream_, min(config.examples_per_step, count)))
    fixed, epoch = order(config.seed, count), 0
    while True:
        active = fixed[: config.curriculum.active(epoch, count, config.examples_per_step)]
        for first in range(0, len(active), config.examples_per_step):
            yield active[first : first + config.examples_per_step]
        epoch += 1


def _shuffles(seed: int, count: int, together: int) -> Iterator[int]:
    epoch = 0
    while True:
        firsts = list(range(0, count, together))
        stream(seed, "order", epoch).shuffle(firsts)
        for first in firsts:
            yield from range(first, first + together)
        epoch += 1


def _clip(factors: Sequence[Tensor], moved: Sequence[int], limits: Sequence[float]) -> Tensor:
    """Scale the gradient of each adapter in ``moved`` to at most its limit; gives the norms before."""
    gradients = [factor.grad for factor in factors if factor.grad is not None]
    exact = torch.promote_types(gradients[0].dtype, torch.float32)
    norms = torch.stack([gradient.flatten(1).norm(dim=1, dtype=exact) for gradient in gradients]).norm(dim=0)
    most = torch.full_like(norms, torch.inf)
    most[list(moved)] = torch.tensor(list(limits)).to(norms)
    shrink = most / torch.maximum(norms, most)
    shrink = torch.where(most.isinf(), torch.ones_like(shrink), shrink)
    for gradient in gradients:
        gradient.mul_(shrink.to(gradient)[:, None, None])
    return norms[list(moved)]
