"""What every recipe's file has in common: TOML, strict sections, and errors that name all fields that are wrong."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gelert.core.errors import InputError


class Strict(BaseModel):
    """A section; a field that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Section = TypeVar("Section", bound=BaseModel)


def document(path: Path) -> dict[str, object]:
    """What a file holds.

    Raises:
        InputError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise InputError(f"expected a recipe in TOML, got {fault} ({path})") from None


def fields(kind: type[Section], found: Mapping[str, object], where: str, what: str = "a recipe") -> Section:
    """A document as the recipe ``kind``; ``where`` and ``what`` are named in errors.

    Raises:
        InputError: fields are wrong or unknown, all of which are named.
    """
    try:
        return kind.model_validate_json(json.dumps(found, default=str))
    except ValidationError as fault:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in fault.errors())
        raise InputError(f"expected the fields of {what}, got {told} ({where})") from None
