"""What the commands say of an audit in a database before they have spoken to one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_serve import environment, gelert

URL = "postgresql://gelert_one@127.0.0.1:9/gelert"
"""Where nobody answers."""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("serve", "--audit", URL, "--power-safe"), "synchronous_commit"),
        (("serve", "--audit", "a.db", "--instance", "one"), "one service's own"),
        (("serve", "--audit", URL, "--instance", ""), "expected a name"),
        (("serve", "--audit", URL), "expected a database that answers"),
        (("audit", "verify", "a.db", "--instance", "one"), "a file holds one chain"),
        (("audit", "export", "a.db", "--instance", "one"), "a file holds one chain"),
        (("audit", "export", URL), "expected a database that answers"),
        (("audit", "prune", URL, "--keep-days", "1"), "expected a file"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, words: tuple[str, ...], wanted: str) -> None:
    out = gelert(*words, *(("--port", "0") if words[0] == "serve" else ()), home=tmp_path)
    assert out.returncode == 2
    assert wanted in out.stderr
    assert "Traceback" not in out.stderr


def test_the_schema_names_the_role_that_only_adds(tmp_path: Path) -> None:
    out = gelert("audit", "schema", home=tmp_path)
    assert out.returncode == 0
    assert "GRANT SELECT, INSERT ON gelert.decision, gelert.signed TO gelert_writer;" in out.stdout


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("psycopg", ["serve", "--port", "0", "--audit", URL]),
        ("psycopg", ["audit", "verify", URL]),
        ("opentelemetry.sdk", ["serve", "--port", "0", "--otel"]),
    ],
)
def test_a_library_that_is_not_installed_is_named_as_an_extra(tmp_path: Path, library: str, words: list[str]) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {words!r}\n"
    code += "from gelert.cli.main import main\nmain()"
    (tmp_path / "audit.db.key").write_text("k" * 64)
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
    )
    assert out.returncode == 2
    extra = "otel" if library == "opentelemetry.sdk" else "postgres"
    assert f"pip install 'gelert[{extra}]'" in out.stderr
