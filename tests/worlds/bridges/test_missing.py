"""Where a library is not installed, its bridge says how to get it."""

import importlib
import importlib.util

import pytest

from gelert.core.errors import MissingError

BRIDGES = {
    "inspect_task": ("inspect_ai", "inspect"),
    "openenv_client": ("openenv", "openenv"),
    "openenv_env": ("openenv", "openenv"),
    "verifiers_env": ("verifiers", "verifiers"),
    "verifiers_tools": ("verifiers", "verifiers"),
    "verl_loop": ("verl", "verl"),
}


@pytest.mark.parametrize("bridge", list(BRIDGES))
def test_a_bridge_names_its_extra(bridge: str) -> None:
    library, extra = BRIDGES[bridge]
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed")
    with pytest.raises(MissingError, match=rf"bridges.{bridge} needs .* pip install 'gelert.{extra}.'"):
        importlib.import_module(f"gelert.worlds.bridges.{bridge}")
