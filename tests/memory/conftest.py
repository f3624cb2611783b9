"""A tiny model in a folder, as a user's own would be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gelert.lm.model import LanguageModel, tiny


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def model() -> LanguageModel:
    return tiny(width=64, dtype="float32")


@pytest.fixture(scope="package")
def folder(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    model.net.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path
