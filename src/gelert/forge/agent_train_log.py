"""The loss of every step of an agent's fine-tuning, on disk after each."""

from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from gelert.core import records


class StepLog(TrainerCallback):
    """Writes the figures of all steps to a file after each; a run that is resumed keeps those of its checkpoint.

    Args:
        path: of the file.
        kind: and version of its records.
        names: with what the names of the figures begin that are kept; all figures are in the checkpoints.
        tell: is told the number of each step that is done.
    """

    def __init__(self, path: Path, kind: tuple[str, int], names: tuple[str, ...], tell: Callable[[int], None]) -> None:
        self._path, self._kind, self._names, self._tell = path, kind, names, tell

    @override
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_more: object) -> None:
        if state.is_world_process_zero and state.log_history and "loss" in state.log_history[-1]:
            rows = [
                {name: value for name, value in row.items() if name.startswith(self._names)}
                for row in state.log_history
                if "loss" in row
            ]
            records.write(self._path, *self._kind, rows)
            self._tell(state.global_step)
