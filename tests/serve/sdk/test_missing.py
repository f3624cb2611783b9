"""Where an SDK is not installed, its adapter says how to get it."""

import importlib
import importlib.util

import pytest

from gelert.core.errors import MissingError

ADAPTERS = {
    "inspect_approver": ("inspect_ai", "inspect"),
    "langchain_middleware": ("langchain", "langchain"),
    "openai_agents": ("agents", "openai-agents"),
}


@pytest.mark.parametrize("adapter", list(ADAPTERS))
def test_an_adapter_names_its_extra(adapter: str) -> None:
    library, extra = ADAPTERS[adapter]
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed")
    with pytest.raises(MissingError, match=rf"sdk.{adapter} needs .* pip install 'gelert.{extra}.'"):
        importlib.import_module(f"gelert.serve.sdk.{adapter}")
