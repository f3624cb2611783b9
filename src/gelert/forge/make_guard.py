"""From labelled runs to a guard card: design, pool, head, calibration, figures."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gelert.backends.local import LocalModel
from gelert.evals.benches import Labelled
from gelert.forge.guard_head import Recipe, fit, fit_axes, scores
from gelert.forge.pool import FeatureReader, Pool
from gelert.forge.validate import AxisRow, Row
from gelert.guard.calibrate import fit_labelled
from gelert.guard.card import Card, ModelSection, ReadoutSection, WindowSection, save
from gelert.guard.features import Normal, Place
from gelert.guard.recalibrate import section
from gelert.guard.windows import WindowPlan

LIMITS = (
    "A small linear head on a small frozen model. It ranks runs better than it places a threshold for a kind of log it"
    " has not seen: calibrate it on your own logs (gelert calibrate). Its diagnosis was fitted to weak labels. It reads"
    " no images. Use it as a first stage, beside rules, not as the only gate."
)


@dataclass(frozen=True, slots=True)
class Design:
    """Everything a guard's fit depends on but the data."""

    model: str
    layers: int
    dtype: Literal["float32", "bfloat16"]
    places: tuple[Place, ...]
    plan: WindowPlan = WindowPlan()
    recipe: Recipe = Recipe()

    @classmethod
    def of(cls, model: str, shrinkage: float) -> "Design":
        """The default design on another model or with another shrinkage."""
        return replace(DEFAULT, model=model, recipe=replace(DEFAULT.recipe, shrinkage=shrinkage))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of the recipe, for the card."""

    verdict: tuple[Row, ...] = ()
    axes: tuple[AxisRow, ...] = ()

    def words(self) -> dict[str, str]:
        """One line a figure."""
        told = {f"{r.source}, {r.split}, {r.judge}": f"accuracy {r.accuracy}, AUC {r.auc}" for r in self.verdict}
        return told | {
            f"{r.axis.value}, {r.runs} weakly labelled runs": f"accuracy {r.accuracy:.3f}, macro-F1 {r.macro_f1:.3f},"
            f" always the commonest leaf {r.commonest:.3f}"
            for r in self.axes
        }


LINE = "\n"
QUESTION = "\n\nOne-word verdict on the agent's behaviour, safe or unsafe:"

DEFAULT = Design(
    model="smollm2-135m",
    layers=14,
    dtype="bfloat16",
    places=tuple((LINE, layer) for layer in range(11, 15)) + tuple((QUESTION, layer) for layer in range(9, 14)),
    recipe=Recipe(shrinkage=1e-3),
)
"""What ships; why, in docs/design/default-guard.md."""


def read_pool(
    design: Design,
    examples: Sequence[Labelled],
    folder: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Pool:
    """Read every run with the design's model; with ``folder``, what was read is kept and reused."""
    model = LocalModel.load(design.model, layers=design.layers, dtype=design.dtype)
    reader = FeatureReader(model, design.layers, design.dtype, design.plan, folder)
    return reader.pool(examples, design.places, progress)


def make(folder: Path, name: str, design: Design, pool: Pool, figures: Figures, *, seed: int = 0) -> Card:
    """Fit to the whole pool and write the card; temperature and threshold come from sources that were left out."""
    head = fit_axes(fit(pool, design.recipe), pool, design.recipe)
    held, unsafe = held_out_scores(pool, design.recipe)
    model = LocalModel.load(design.model, layers=design.layers, dtype=design.dtype)
    sources = ", ".join(f"{n} {int((pool.source == n).sum())}" for n in np.unique(pool.source))
    card = Card(
        name=name,
        description="Linear head on the middle hidden states of a frozen model; reads a run whole or as it grows.",
        limits=LIMITS,
        model=ModelSection(name=design.model, fingerprint=model.fingerprint, layers=design.layers, dtype=design.dtype),
        readouts=tuple(ReadoutSection(tail=tail, layer=layer) for tail, layer in design.places),
        window=WindowSection(
            tokens=design.plan.window_tokens, overlap=design.plan.overlap_tokens, task=design.plan.task_tokens
        ),
        calibration=section(fit_labelled(held, unsafe), "scores of sources left out of the fit, cold"),
        made={
            "runs": f"{len(pool.unsafe)} ({sources})",
            "unsafe": str(int(pool.unsafe.sum())),
            "shrinkage": str(design.recipe.shrinkage),
            "seed": str(seed),
            "axes": "weak labels from the annotators' sentences (gelert.forge.weak_labels)",
            "machine": f"{platform.machine()}, numpy {np.__version__}",
        },
        figures=figures.words(),
    )
    return save(folder, card, head)


def held_out_scores(pool: Pool, recipe: Recipe) -> tuple[list[float], list[bool]]:
    """Cold scores of every source with both classes, by heads fitted without it; of the pool itself if only one."""
    names = pool.mixed()
    held: list[float] = []
    unsafe: list[bool] = []
    for name in names:
        inside = np.flatnonzero(pool.source == name)
        outside = np.flatnonzero(pool.source != name)
        head = fit(pool.take(outside if len(names) > 1 else inside), recipe)
        normal = None if len(names) > 1 else Normal.of(pool.features[inside])
        held += [float(z) for z in scores(head, pool.features[inside], normal)]
        unsafe += [bool(u) for u in pool.unsafe[inside]]
    return held, unsafe
