"""Where each test's service listens, so that an adapter that is told nothing finds it."""

from pathlib import Path

import pytest


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a service's socket; nobody listens there yet."""
    path = tmp_path / "s"
    monkeypatch.setenv("GELERT_SOCKET", str(path))
    monkeypatch.setenv("GELERT_HOME", str(tmp_path))
    return path
