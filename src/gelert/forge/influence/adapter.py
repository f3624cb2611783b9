"""Gradients of the verdict margin by a low-rank adapter: window by window, sketched, kept on disk, never made twice.

The adapter lies in the model's last blocks and does nothing yet, so its gradient is that of the weights it lies on, in
a random subspace of what they read. The margin is that of the two answers to the verdict question at a window's end.
The blocks below run once a window, without gradients; what is kept of a window is its gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel, Reader
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.trajectory import Trajectory
from gelert.evals.benches import Labelled
from gelert.forge.influence.problem import Problem, inner
from gelert.forge.influence.runs import centered, runs_problem
from gelert.forge.influence.sketch import projection, sketched
from gelert.forge.influence.solve import Loss
from gelert.forge.influence.store import Floats, GradientStore
from gelert.forge.pool import Pool
from gelert.guard.prompts.render import render
from gelert.guard.windows import WindowedReader, WindowPlan
from gelert.spread.workers import HERE, Workers

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from gelert.lm.bank import Bank
    from gelert.lm.trunk import Trunk

ANSWERS = ("safe", "unsafe")

SKETCH_DIMENSIONS = 8_192
"""Of a kept gradient; one with fewer parameters is kept as it is."""


@dataclass(frozen=True, slots=True)
class AdapterDesign:
    """What is differentiated."""

    question: str
    """Asked at the end of each window."""
    blocks: int = 4
    """Of the model's last blocks so many carry the adapter, on every linear map."""
    rank: int = 8
    plan: WindowPlan = WindowPlan()
    seed: int = 0
    """Of the adapter and of the sketch."""


@dataclass(frozen=True)
class AdapterReader:
    """Reads runs with a whole frozen model; the gradients stay under ``folder``."""

    model: LocalModel
    design: AdapterDesign
    folder: Path

    @classmethod
    def load(cls, name: str, design: AdapterDesign, folder: Path) -> "AdapterReader":
        """The reader with all blocks of a model, see ``LocalModel.load``."""
        return cls(LocalModel.load(name), design, folder)

    def gradients(
        self,
        examples: Sequence[Labelled],
        progress: Callable[[int], None] = lambda _: None,
        workers: Workers = HERE,
    ) -> Floats:
        """``[m, width]`` of every window in which an agent acts, run by run.

        Args:
            examples: the runs.
            progress: told how many windows are done.
            workers: who differentiates what is not kept; whoever it is, the same bytes are kept.

        Raises:
            RecordError: a gradient that an earlier run has kept was changed.
        """
        windows = [window for item in examples for window in self.windows(item.example.trajectory)]
        keys = [records.digest(window) for window in windows]
        store = GradientStore.open(self.folder, self.fingerprint, self.width)
        store.check()

        def compute(places: Sequence[int]) -> Iterator[NDArray[np.floating]]:
            make = self._here if workers.alone else partial(_gradient_of, self.model.elsewhere, self.design)
            found = workers.in_order(make, (windows[place] for place in places))
            for place, gradient in zip(places, found, strict=True):
                yield gradient
                progress(place + 1)

        store.fill(keys, compute)
        return store.gradients(keys)

    def windows(self, trajectory: Trajectory) -> Iterator[list[int]]:
        """The tokens of each window in which the agent acts, with the question: the windows that the head reads."""
        rendered = render(trajectory)
        reader = WindowedReader(_Unread(self.model.model), rendered.header, self.design.plan)
        left: list[Reader] = []
        for piece, step in zip(rendered.pieces, trajectory.steps, strict=True):
            left += reader.append(piece, step.role)
        for window in [*left, reader.reader]:
            assert isinstance(window, _Tokens)
            if window.pooled:
                yield [*window.tokens, *self._asked[0]]

    def gradient(self, window: Sequence[int]) -> NDArray[np.floating]:
        """``[width]`` of one window."""
        from gelert.lm.gradients import margin_gradients

        trunk, bank = self._lower_and_upper
        sketch = None if self._projection is None else self._sketched
        (found,) = margin_gradients(trunk, bank, [window], self._asked[1], sketch=sketch)
        return found.float().numpy()

    def _here(self) -> Callable[[Sequence[int]], NDArray[np.floating]]:
        return self.gradient

    @cached_property
    def parameters(self) -> int:
        """Of the adapter."""
        return sum(factor.numel() for factor in self._lower_and_upper[1].parameters())

    @property
    def width(self) -> int:
        """Numbers kept of a gradient."""
        return min(self.parameters, SKETCH_DIMENSIONS)

    @property
    def fingerprint(self) -> str:
        """Identifies what is differentiated; the window with its question is the key of a gradient."""
        design = asdict(self.design)
        named = {name: design[name] for name in ("blocks", "rank", "seed")}
        return records.digest([self.model.fingerprint, str(self.model.model.dtype), self._asked[1], named])

    @cached_property
    def _asked(self) -> tuple[list[int], tuple[int, int]]:
        """The question's tokens with what the two answers share, and the tokens in which they first differ."""
        safe, unsafe = (self.model.encode(f"{self.design.question} {answer}") for answer in ANSWERS)
        shared = next(place for place, (s, u) in enumerate(zip(safe, unsafe, strict=False)) if s != u)
        return safe[:shared], (safe[shared], unsafe[shared])

    @cached_property
    def _lower_and_upper(self) -> "tuple[Trunk, Bank]":
        from gelert.lm import bank
        from gelert.lm.trunk import Trunk

        model, design = self.model.model, self.design
        if not 1 <= design.blocks <= model.layers:
            raise InputError(f"expected an adapter in 1 to {model.layers} blocks, got {design.blocks}")
        start = model.layers - design.blocks
        return Trunk(model, start), bank.new(model, [bank.Spec(design.rank, seed=design.seed)], blocks_from=start)

    @cached_property
    def _projection(self) -> "csr_matrix | None":
        if self.parameters <= SKETCH_DIMENSIONS:
            return None
        return projection(self.parameters, SKETCH_DIMENSIONS, self.design.seed)

    def _sketched(self, gradient: "Tensor") -> "Tensor":
        import torch

        assert self._projection is not None
        return torch.from_numpy(sketched(gradient.numpy()[None], self._projection)[0])


def adapter_problem(
    gradients: Floats,
    parameters: int,
    pool: Pool,
    examples: Sequence[Labelled],
    targets: Sequence[int],
    *,
    loss: Loss = "squared",
    damping: float | None = None,
) -> Problem:
    """The problem of an adapter's first step: see ``gelert.forge.influence.runs.runs_problem``.

    As the head's features are, gradients are scaled to about unit length and centered on their own source, and a
    constant 1 stands for the bias.

    Raises:
        InputError: the windows are not the pool's, there is no target, or the candidates are of one class.
    """
    if len(gradients) != len(pool.owner):
        raise InputError(f"expected a gradient of each of {len(pool.owner)} windows, got {len(gradients)}")
    kernel = centered(inner(gradients), pool)
    kernel /= max(float(np.diag(kernel).mean()), 1e-300)
    return runs_problem(kernel + 1.0, parameters, pool, examples, targets, loss=loss, damping=damping)


def _gradient_of(
    model: Callable[[], LocalModel], design: AdapterDesign
) -> Callable[[Sequence[int]], NDArray[np.floating]]:
    """In another process; what it gives is kept by the one that asked."""
    return AdapterReader(model(), design, Path()).gradient


class _Unread(LocalModel):
    """The model's words without the model: what its readers are given they keep, and read nothing."""

    def reader(self, pools: Sequence[int] = ()) -> Reader:
        del pools
        return _Tokens([], 0)


class _Tokens(Reader):
    """A text as tokens, and how many of them are the agent's."""

    def __init__(self, tokens: Sequence[int], acted: int) -> None:
        self.tokens = [*tokens]
        self._acted = acted

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def pooled(self) -> int:
        return self._acted

    def append(self, tokens: Sequence[int], *, pooled: bool = False) -> None:
        self.tokens += tokens
        self._acted += len(tokens) * pooled

    def fork(self) -> "_Tokens":
        return _Tokens(self.tokens, self._acted)
