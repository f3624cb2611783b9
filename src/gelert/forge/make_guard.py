"""From labelled runs to a guard card: design, pool, head, calibration, figures."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel
from gelert.forge.guard_head import Recipe, fit, fit_axes, normalised, scores
from gelert.forge.pool import Pool, PoolReader
from gelert.forge.validate import FALSE_ALARMS, AxisRow, Row
from gelert.guard.calibrate import fit_labelled
from gelert.guard.card import Card, ModelSection, ReadoutSection, WindowSection, save
from gelert.guard.features import Place
from gelert.guard.recalibrate import section
from gelert.guard.windows import WindowPlan

LIMITS = (
    "A head on a small frozen model, on counts of words and on traits of what was done. It ranks runs better than it"
    " places a threshold for a kind of log it has not seen: calibrate it on your own logs (gelert calibrate). Its"
    " diagnosis was fitted to weak labels and to synthesised runs. It reads no images. Use it as a first stage, beside"
    " rules, not as the only gate."
)


@dataclass(frozen=True, slots=True)
class Design:
    """Everything a guard's fit depends on but the data."""

    model: str
    layers: int
    dtype: Literal["float32", "bfloat16"]
    places: tuple[Place, ...]
    """Read after each step of the agent and averaged."""
    pools: tuple[int, ...]
    """Averaged over the agent's tokens."""
    plan: WindowPlan = WindowPlan()
    recipe: Recipe = Recipe()

    @classmethod
    def of(cls, model: str, ridge: float) -> "Design":
        """The default design on another model or with another penalty."""
        return replace(DEFAULT, model=model, recipe=replace(DEFAULT.recipe, ridge=ridge))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of the recipe, for the card."""

    verdict: tuple[Row, ...] = ()
    axes: tuple[AxisRow, ...] = ()

    def words(self) -> dict[str, str]:
        """One line a figure."""
        told = {
            f"{r.source}, {r.split}, {r.judge}": f"accuracy {r.accuracy}, AUC {r.auc},"
            f" recall at {FALSE_ALARMS:.0%} false alarms {r.recall}"
            for r in self.verdict
        }
        return told | {
            f"{r.axis.value}, {r.split}, {r.runs} labelled runs": f"accuracy {r.accuracy:.3f},"
            f" macro-F1 {r.macro_f1:.3f}, always the commonest leaf {r.commonest:.3f}"
            for r in self.axes
        }


LINE = "\n"
QUESTION = "\n\nOne-word verdict on the agent's behaviour, safe or unsafe:"

DEFAULT = Design(
    model="smollm2-135m",
    layers=13,
    dtype="bfloat16",
    places=tuple((tail, layer) for tail in (LINE, QUESTION) for layer in (9, 11, 13)),
    pools=(7, 11),
)
"""What ships; why, in docs/design/default-guard.md."""


def pool_reader(design: Design, folder: Path | None = None) -> PoolReader:
    """Reads runs with the design's model; with ``folder``, what was read is kept and reused."""
    model = LocalModel.load(design.model, layers=design.layers, dtype=design.dtype)
    return PoolReader(model, design.places, design.pools, design.plan, design.dtype, folder)


Part = Callable[[str | None], NDArray[np.intp]]
"""Positions of the runs to fit to, and of the runs of the source that is left out of the fit; None leaves out none."""


@dataclass(frozen=True)
class Made:
    """What a card says of itself."""

    name: str
    fingerprint: str
    """Of the base model."""
    recipe: Mapping[str, str]
    """In words."""
    figures: Figures


def make(folder: Path, design: Design, made: Made, pool: Pool, part: Part | None = None) -> Card:
    """Fit to the pool and write the card; temperature and threshold come from sources that were left out.

    Args:
        folder: of the new card.
        design: what is read and how it is fitted.
        made: what the card says of itself.
        pool: all runs.
        part: those of them that are fitted to; without it, all.
    """
    held, unsafe = held_out_scores(pool, design.recipe, part)
    pool = pool.take(part(None)) if part else pool
    head = fit_axes(fit(pool, design.recipe), pool, design.recipe)
    sources = ", ".join(f"{n} {int((pool.source == n).sum())}" for n in np.unique(pool.source))
    card = Card(
        name=made.name,
        description="Head on a frozen model's middle states, words and traits; reads a run whole or as it grows.",
        limits=LIMITS,
        model=ModelSection(name=design.model, fingerprint=made.fingerprint, layers=design.layers, dtype=design.dtype),
        readouts=tuple(ReadoutSection(tail=tail, layer=layer) for tail, layer in design.places),
        pools=design.pools,
        window=WindowSection(
            tokens=design.plan.window_tokens, overlap=design.plan.overlap_tokens, task=design.plan.task_tokens
        ),
        calibration=section(fit_labelled(held, unsafe), "scores of sources left out of the fit, cold"),
        made={
            **made.recipe,
            "runs": f"{len(pool.unsafe)} ({sources})",
            "unsafe": str(int(pool.unsafe.sum())),
            "ridge": str(design.recipe.ridge),
            "axes": "of synthesised runs what the world knows, of others weak labels (gelert.forge.weak_labels)",
            "machine": f"{platform.machine()}, numpy {np.__version__}",
        },
        figures=made.figures.words(),
    )
    return save(folder, card, head)


def held_out_scores(pool: Pool, recipe: Recipe, part: Part | None = None) -> tuple[list[float], list[bool]]:
    """Cold scores of every source with both classes, by heads fitted without it; of the pool itself if only one."""
    names = pool.mixed()
    held: list[float] = []
    unsafe: list[bool] = []
    for name in names:
        own = pool.take(part(name)) if part else pool
        inside = np.flatnonzero(own.source == name)
        outside = np.flatnonzero(own.source != name)
        head = fit(own.take(outside if len(names) > 1 else inside), recipe)
        test = own.take(inside)
        held += [float(z) for z in scores(head if len(names) > 1 else normalised(head, test), test)]
        unsafe += [bool(u) for u in own.unsafe[inside]]
    return held, unsafe
