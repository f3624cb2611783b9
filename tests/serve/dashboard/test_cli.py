"""``gelert dashboard`` against a running service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.dashboard.support import application, listening
from tests.serve.support import TOKEN


def gelert(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gelert.cli.main", "dashboard", *words]
    env = {**os.environ, "GELERT_HOME": str(home), "BROWSER": f"{home}/browser %s"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a token, and a browser that writes down how it was called."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "browser").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    (tmp_path / "browser").chmod(0o700)
    return tmp_path


def test_the_address_is_printed_with_the_token_and_opened_without_showing_it(home: Path) -> None:
    with listening(application(home)) as client:
        url = str(client.base_url).rstrip("/")
        address = f"{url}/dashboard#token={TOKEN}"
        assert gelert(home, "--url", url).stdout.strip() == address
        opened = gelert(home, "--url", url, "--open")
    assert TOKEN not in opened.stdout + opened.stderr
    called = (home / "called").read_text().strip()
    assert called == (home / "dashboard.html").as_uri()
    assert f"url={address}" in (home / "dashboard.html").read_text()
    assert (home / "dashboard.html").stat().st_mode & 0o777 == 0o600


def test_without_a_service_it_says_how_to_start_one(home: Path) -> None:
    out = gelert(home, "--url", "http://127.0.0.1:9")
    assert (out.returncode, out.stdout) == (2, "")
    assert "gelert serve" in out.stderr
