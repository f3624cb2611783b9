"""Fixtures that more than one package's tests need."""

from collections.abc import Iterator

import pytest

from tests.loopback import Loopback, serving


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    with serving() as server:
        yield server
