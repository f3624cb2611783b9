"""Keep the library's own notes and progress bars off the screen: what is printed is the caller's to say."""

from collections.abc import Generator
from contextlib import contextmanager

from transformers.utils import logging as hf_logging


@contextmanager
def quiet() -> Generator[None]:
    """Without progress bars, and without notes on blocks that are left out on purpose."""
    level = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
