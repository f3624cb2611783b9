"""Where a stopped training of TRL goes on, and that it goes on with what was begun."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from gelert.core.errors import InputError

CONFIG, CHECKPOINTS = "config.json", "checkpoints"
"""The file that says what is learnt, and the folder of the checkpoints."""

_STATE = "trainer_state.json"
"""Written last: a checkpoint that has it is whole."""


def last_whole(folder: Path) -> str | None:
    """The last checkpoint in ``folder`` that was written to its end; None where there is none."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{_STATE}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def begin(out: Path, noted: Mapping[str, object]) -> None:
    """Note what is learnt, or check that it is what was begun. Of several processes the first one does it.

    Raises:
        InputError: ``out`` was begun with something else.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    text = json.dumps(noted, indent=1) + "\n"
    kept = out / CONFIG
    if kept.exists() and kept.read_text(encoding="utf-8") != text:
        raise InputError(
            f"expected the config that {out} was begun with, got another recipe, model, version or other runs;"
            f" choose another folder or remove it (compare {kept})"
        )
    out.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
