"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from gelert.lm.model import LanguageModel

# The suite runs in as many processes as there are cores; more threads than that would wait for each other.
# Set before torch is loaded, and seen by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("gelert", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gelert")


@pytest.fixture(scope="session")
def real_model() -> str:
    """The name of the real base model, fetched once into the cache; skips where it cannot be had."""
    from gelert.core.errors import MissingError
    from gelert.lm import fetch

    try:
        fetch.pull("smollm2-135m")
    except MissingError as fault:
        pytest.skip(f"the real model cannot be had: {fault}")
    return "smollm2-135m"


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    """A tiny seeded model, in memory."""
    from gelert.lm.model import tiny

    return tiny(width=64, dtype="float32")


@pytest.fixture(scope="session")
def folder(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in a folder, as a user's own would be."""
    path = tmp_path_factory.mktemp("tiny")
    model.net.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path
