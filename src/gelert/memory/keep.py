"""Run a training to its end, saving at times and when interrupted, so that the same call goes on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from gelert.lm.loop import Step, Training

SAVE_SECONDS = 30.0
"""Between two savings."""


def finish(training: Training, path: Path, each: Callable[[Step], bool]) -> float:
    """Take all steps that are left; gives the seconds they took in all, those before an interrupt too.

    Args:
        training: goes on from what ``path`` holds.
        path: removed by the caller once the result is safe.
        each: told every step; the training ends when it gives false.
    """
    before = _load(training, path)
    started = saved = time.monotonic()
    try:
        for step in training.run():
            if not each(step):
                break
            if time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                _save(training, path, before + saved - started)
    except KeyboardInterrupt:
        _save(training, path, before + time.monotonic() - started)
        raise
    return before + time.monotonic() - started


def _load(training: Training, path: Path) -> float:
    if not path.exists():
        return 0.0
    kept = torch.load(path, weights_only=True)
    training.restore(kept["training"])
    return cast("float", kept["seconds"])


def _save(training: Training, path: Path, seconds: float) -> None:
    partial = path.with_suffix(".new")
    torch.save({"training": training.state(), "seconds": seconds}, partial)
    partial.replace(path)
