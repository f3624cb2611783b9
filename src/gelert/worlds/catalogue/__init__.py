"""The worlds that come with Gelert, one JSON file each, and those of users."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from gelert.core.errors import InputError
from gelert.worlds.families import Family, families
from gelert.worlds.world import World, load


def names() -> list[str]:
    """Of the worlds that come with Gelert."""
    return sorted(path.stem for path in _folder().iterdir() if path.suffix == ".json")


@cache
def built_in(name: str) -> World:
    """One of the worlds that come with Gelert.

    Raises:
        InputError: there is none of that name.
    """
    if name not in names():
        raise InputError(f"expected a world among {', '.join(names())}, or a file, got {name!r}")
    return load(_folder() / f"{name}.json")


def worlds(asked: Sequence[str] = ()) -> list[World]:
    """Worlds by name or by file; all that come with Gelert where none is asked for.

    Raises:
        InputError: one is not there, or is none.
    """
    return [load(Path(one)) if one.endswith(".json") else built_in(one) for one in asked or names()]


def catalogue(asked: Sequence[str] = ()) -> dict[str, Family]:
    """The families of worlds, by ``world/family``.

    Raises:
        InputError: a world is not there, or something in it is not as it should be.
    """
    return {f"{world.name}/{name}": family for world in worlds(asked) for name, family in families(world).items()}


def _folder() -> Path:
    return Path(str(resources.files("gelert.worlds.catalogue")))
