"""The folder of an agent's training: what it is made of, its checkpoints, its log, and what comes of it.

``config.json`` replays it, ``checkpoints`` and ``log.jsonl`` grow with it. In the end there is ``adapter`` (in PEFT's
form), ``model`` or both, each with a card ``agent.json``: an agent of ``gelert eval-agent``, as
``gelert.backends.local_chat`` plays it.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gelert.core.records import file_digest
from gelert.forge.adapter import Adapter, write

if TYPE_CHECKING:
    from transformers import Trainer

LOG, CARD = "log.jsonl", "agent.json"


def versions() -> dict[str, str]:
    """Of what a training depends on."""
    return {name: version(name) for name in ("gelert", "trl", "peft", "transformers", "torch")}


def weights(folder: Path) -> list[str]:
    """SHA-256 of each file of weights in a folder."""
    return [file_digest(one) for one in sorted(folder.glob("*.safetensors"))]


def keep(
    trainer: "Trainer", adapter: Adapter | None, model: str, out: Path, noted: Mapping[str, object]
) -> tuple[str, ...]:
    """Write what was learnt, with its card; gives the folders.

    Args:
        trainer: that has ended.
        adapter: that was trained; None where all weights were.
        model: the name of what was begun with.
        out: the folder of the training.
        noted: see ``begin``.
    """
    folders = write(trainer, adapter, model, out)
    if trainer.is_world_process_zero():
        card = json.dumps({**noted, "steps": trainer.state.global_step}, indent=1) + "\n"
        for folder in folders:
            (folder / CARD).write_text(card, encoding="utf-8")
    return tuple(map(str, folders))
