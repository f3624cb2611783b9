"""The card of a guard that answers in words: ``guard.toml`` beside a low-rank adapter in PEFT's format."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gelert.core.errors import CardError
from gelert.core.records import file_digest
from gelert.guard.answer import QUESTION
from gelert.guard.calibrate import Calibration
from gelert.guard.card import CARD_FILE, CalibrationSection, ModelSection
from gelert.guard.views import FEWEST_TOKENS

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class AdapterSection(BaseModel):
    """The adapter beside the card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acts: Literal["answer", "all"]
    """From the question on, or on all tokens."""
    question: Literal["\n\nVerdict on what the agent did.\nSafety:"] = QUESTION
    """What it was trained on; another one is not this guard's."""
    max_tokens: Annotated[int, Field(ge=FEWEST_TOKENS, le=1_000_000)]
    """Longest view; a longer run is read in several."""
    rationale_tokens: Annotated[int, Field(ge=0, le=4096)] = 0
    """Longest rationale; 0 where it learned none."""
    sha256: dict[str, str] = {}
    """Of each of its files."""


class AdapterCard(BaseModel):
    """The content of ``guard.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    kind: Literal["adapter"] = "adapter"
    name: str
    description: str = ""
    limits: str = ""
    """What this guard is known not to do."""
    model: ModelSection
    adapter: AdapterSection
    calibration: CalibrationSection = CalibrationSection()
    made: dict[str, str] = {}
    """Recipe: data, seed, versions."""
    figures: dict[str, str] = {}
    """What was measured, each with its floor."""

    @property
    def scores(self) -> Calibration:
        """How margins become risks and alarms."""
        c = self.calibration
        return Calibration(c.scale, c.shift, c.threshold, c.runs, c.labelled, c.alarm_budget, c.certified_rate)


def load_adapter(folder: Path) -> AdapterCard:
    """The card of a folder whose adapter is the one it was written for.

    Raises:
        CardError: a file is missing, has an unknown or wrong field, or the adapter was changed.
    """
    path = folder / CARD_FILE if folder.is_dir() else folder
    try:
        card = AdapterCard.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        came = _digests(path.parent)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise CardError(f"expected a guard card and its adapter, got {fault} ({path})") from None
    except ValidationError as fault:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors())
        raise CardError(f"expected a guard card of format 2 and kind 'adapter', got: {found} ({path})") from None
    if came != card.adapter.sha256:
        raise CardError(f"expected adapter files with SHA-256 {card.adapter.sha256}, got {came} ({path.parent})")
    return card


def save_adapter(folder: Path, card: AdapterCard) -> AdapterCard:
    """Write the card beside its adapter; gives it with the adapter's hashes."""
    adapter = card.adapter.model_copy(update={"sha256": _digests(folder)})
    sealed = card.model_copy(update={"adapter": adapter})
    (folder / CARD_FILE).write_text(tomli_w.dumps(sealed.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return sealed


def _digests(folder: Path) -> dict[str, str]:
    return {name: file_digest(folder / name) for name in ADAPTER_FILES}
