"""A guard on disk: a folder with ``guard.toml`` (what it is, how it was made, what it reaches) and its weights.

The card names the base model by fingerprint and the weights by hash: a guard never runs on a model it was not fitted
to, and an edited weight file is found before the first verdict.
"""

import io
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tomli_w
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gelert.core.errors import CardError
from gelert.core.records import file_digest
from gelert.core.taxonomy import Axis
from gelert.guard.calibrate import Calibration
from gelert.guard.head import Head, Normal, TraitMap
from gelert.guard.traits import COUNTED
from gelert.guard.windows import WindowPlan
from gelert.guard.words import COUNTING, WordWeights

CARD_FILE = "guard.toml"
WEIGHTS_FILE = "weights.npz"
WORD_RANGE = 1000.0
"""Word weights are kept in half precision, scaled so that this is the largest."""

MAX_WEIGHTS_BYTES = 512 * 1024 * 1024


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Strict):
    """The frozen base model."""

    name: str
    fingerprint: str
    layers: Annotated[int, Field(ge=1, le=1024)]
    """Blocks that are run; those above are not loaded."""
    dtype: Literal["float32", "bfloat16"] = "float32"


class ReadoutSection(_Strict):
    """Where the hidden state is read: after ``layer`` blocks, at the end of ``tail``."""

    tail: Annotated[str, Field(min_length=1, max_length=2000)]
    layer: Annotated[int, Field(ge=1, le=1024)]


class WindowSection(_Strict):
    """How a long trajectory is read."""

    tokens: Annotated[int, Field(ge=256, le=1_000_000)] = 2048
    overlap: Annotated[int, Field(ge=0)] = 512
    task: Annotated[int, Field(ge=0)] = 256


class CalibrationSection(_Strict):
    """How scores become risks and alarms; see ``gelert.guard.calibrate.Calibration``."""

    scale: float = 1.0
    shift: float = 0.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    runs: int = 0
    labelled: bool = False
    alarm_budget: float | None = None
    certified_rate: float | None = None
    source: str = ""
    """What it was calibrated on, in words."""


class Card(_Strict):
    """The content of ``guard.toml``."""

    format: Literal[3] = 3
    name: str
    description: str = ""
    limits: str = ""
    """What this guard is known not to do."""
    model: ModelSection
    readouts: Annotated[tuple[ReadoutSection, ...], Field(min_length=1, max_length=64)]
    pools: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=64)] = ()
    """After how many blocks the states of the agent's tokens are averaged."""
    counting: Annotated[int, Field(ge=COUNTING, le=COUNTING)] = COUNTING
    """How words were counted when the weights were fitted; see ``gelert.guard.words``."""
    counted: Annotated[int, Field(ge=COUNTED, le=COUNTED)] = COUNTED
    """How traits were counted when the weights were fitted; see ``gelert.guard.traits``."""
    window: WindowSection = WindowSection()
    calibration: CalibrationSection = CalibrationSection()
    weights_sha256: str = ""
    classes: dict[Axis, tuple[str, ...]] = {}
    """The leaves each axis head can answer with, in the order of its weights."""
    made: dict[str, str] = {}
    """Recipe: data, command, seed, versions."""
    figures: dict[str, str] = {}
    """What was measured, each with its interval and its floor."""

    @property
    def window_plan(self) -> WindowPlan:
        """Sizes of the reading window."""
        return WindowPlan(self.window.tokens, self.window.overlap, self.window.task)

    @property
    def scores(self) -> Calibration:
        """How scores become risks and alarms."""
        c = self.calibration
        return Calibration(c.scale, c.shift, c.threshold, c.runs, c.labelled, c.alarm_budget, c.certified_rate)


def default_card() -> Path:
    """The folder of the guard that ships with Gelert."""
    return Path(str(resources.files("gelert.guard") / "default"))


def kind(folder: Path) -> str:
    """What a card says its guard is: ``head`` where it says nothing, as the first cards do.

    Raises:
        CardError: there is no card.
    """
    path = folder / CARD_FILE if folder.is_dir() else folder
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("kind", "head"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise CardError(f"expected a guard card, got {fault} ({path}); give a folder with a {CARD_FILE}") from None


def load(folder: Path) -> tuple[Card, Head]:
    """The card and the weights of a guard.

    Raises:
        CardError: a file is missing, has an unknown or wrong field, or its weights are not those the card names.
    """
    path = folder / CARD_FILE if folder.is_dir() else folder
    try:
        card = Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise CardError(f"expected a guard card, got {fault} ({path}); give a folder with a {CARD_FILE}") from None
    except ValidationError as fault:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors())
        raise CardError(f"expected a guard card of format 3, got: {found} ({path})") from None
    return card, _weights(card, path.with_name(WEIGHTS_FILE))


def save(folder: Path, card: Card, head: Head) -> Card:
    """Write card and weights; gives the card with the weights' hash in it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    words = head.words
    unit = max(float(np.abs(words.weights).max()) / WORD_RANGE, 1e-30)
    arrays: dict[str, NDArray[np.float16] | NDArray[np.float32] | NDArray[np.float64]] = {
        "center": head.normal.center,
        "spread": head.normal.spread,
        "verdict": head.verdict,
        "words_idf": words.idf.astype(np.float16),
        "words": (words.weights / np.float32(unit)).astype(np.float16),
        "trait_center": head.traits.normal.center,
        "trait_spread": head.traits.normal.spread,
        "frequencies": head.traits.frequencies.astype(np.float16),
        "phases": head.traits.phases,
        "traits": head.traits.weights,
        "scalars": np.array([head.bias, words.center, unit]),
    }
    for axis, matrix in head.axes.items():
        arrays[f"axis_{axis.value}"] = matrix
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType] - numpy's stub mixes arrays and flags
    weights.write_bytes(buffer.getvalue())
    sealed = card.model_copy(update={"weights_sha256": file_digest(weights), "classes": dict(head.classes)})
    (folder / CARD_FILE).write_text(tomli_w.dumps(sealed.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return sealed


def _weights(card: Card, path: Path) -> Head:
    try:
        if path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise CardError(f"expected weights of at most {MAX_WEIGHTS_BYTES} bytes, got more ({path})")
        if (came := file_digest(path)) != card.weights_sha256:
            raise CardError(f"expected weights with SHA-256 {card.weights_sha256}, got {came} ({path})")
        with np.load(path, allow_pickle=False) as stored:
            bias, center, unit = (float(x) for x in stored["scalars"])
            arrays = {name: np.asarray(stored[name], dtype=np.float32) for name in stored.files}
        return Head(
            normal=Normal(arrays["center"], arrays["spread"]),
            verdict=arrays["verdict"],
            words=WordWeights(arrays["words_idf"], arrays["words"] * np.float32(unit), center),
            traits=TraitMap(
                Normal(arrays["trait_center"], arrays["trait_spread"]),
                arrays["frequencies"],
                arrays["phases"],
                arrays["traits"],
            ),
            bias=bias,
            classes={axis: tuple(names) for axis, names in card.classes.items()},
            axes={axis: arrays[f"axis_{axis.value}"] for axis in card.classes},
        )
    except (OSError, ValueError, KeyError, IndexError) as fault:
        raise CardError(f"expected the weights that the card names, got {fault!r} ({path})") from None
