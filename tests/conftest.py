"""Fixtures and settings that all tests share."""

import pytest
from hypothesis import HealthCheck, settings

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
