"""Where a stopped training of TRL goes on."""

from pathlib import Path

_STATE = "trainer_state.json"
"""Written last: a checkpoint that has it is whole."""


def last_whole(folder: Path) -> str | None:
    """The last checkpoint in ``folder`` that was written to its end; None where there is none."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{_STATE}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None
