"""Keep the libraries' own notes and progress bars off the screen, and their reports of use at home.

What is printed is the caller's to say; that a model is trained here, and on how many machines, is nobody's else.
"""

from collections.abc import Generator
from contextlib import contextmanager

from huggingface_hub import constants as hub
from transformers.utils import logging as hf_logging


@contextmanager
def quiet() -> Generator[None]:
    """Without progress bars, notes on blocks that are left out on purpose, and what TRL's trainers send to the hub."""
    level = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    silent = hub.HF_HUB_DISABLE_TELEMETRY
    hub.HF_HUB_DISABLE_TELEMETRY = True
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hub.HF_HUB_DISABLE_TELEMETRY = silent
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
