"""Three axes that explain an unsafe trajectory: where the risk came from, how the agent failed, what harm it does.

The axes never change. A setting (OpenClaw, Codex) adds leaves and narrows the meaning of inherited ones, and a user may
add leaves in a TOML file of their own. Leaves, counts and settings: arXiv:2605.29801 section 2.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path

from gelert.core.errors import TaxonomyError
from gelert.core.trajectory import Setting


class Axis(StrEnum):
    """The three questions of a diagnosis."""

    RISK_SOURCE = "risk_source"
    FAILURE_MODE = "failure_mode"
    HARM = "real_world_harm"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One category of one axis."""

    axis: Axis
    slug: str
    """Machine string, snake_case."""
    name: str
    """Display name."""
    family: str
    setting: Setting
    """The setting that introduced the leaf; general leaves apply everywhere."""
    meaning: str
    aliases: tuple[str, ...] = ()
    """Every other string that a public release uses for it."""
    narrowed: tuple[tuple[Setting, str], ...] = ()
    """What the leaf means more narrowly in a setting that inherits it."""
    published: bool = True
    """Whether the machine string was seen in released data; otherwise it is ours."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One slug per axis, or None where the guard does not say."""

    risk_source: str | None = None
    failure_mode: str | None = None
    harm: str | None = None

    def on(self, axis: Axis) -> str | None:
        """The slug on one axis."""
        match axis:
            case Axis.RISK_SOURCE:
                return self.risk_source
            case Axis.FAILURE_MODE:
                return self.failure_mode
            case Axis.HARM:
                return self.harm


def fold(text: str) -> str:
    """A spelling with case, punctuation and spacing removed, for matching names and aliases."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


@dataclass(frozen=True)
class Taxonomy:
    """The leaves of all axes; names and aliases never collide within an axis."""

    leaves: tuple[Leaf, ...]

    def __post_init__(self) -> None:
        seen: dict[tuple[Axis, str], Leaf] = {}
        for leaf in self.leaves:
            for spelling in {fold(s) for s in (leaf.slug, leaf.name, *leaf.aliases)}:
                other = seen.setdefault((leaf.axis, spelling), leaf)
                if other is not leaf:
                    raise TaxonomyError(
                        f"expected every spelling on axis {leaf.axis.value!r} to name one leaf, but {spelling!r} names"
                        f" both {other.slug!r} and {leaf.slug!r}; rename one of them"
                    )

    @classmethod
    def load(cls, *paths: Path) -> "Taxonomy":
        """The built-in leaves, and those of the user's own TOML files.

        Raises:
            TaxonomyError: a file has an unknown axis, a leaf without a field, or a spelling that is taken.
        """
        leaves = list(builtin().leaves)
        for path in paths:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as fault:
                raise TaxonomyError(f"expected a readable TOML file of leaves, got {fault} ({path})") from None
            leaves += _read(text, str(path))
        return cls(tuple(leaves))

    def on(self, axis: Axis, setting: Setting | None = None) -> tuple[Leaf, ...]:
        """The leaves of one axis; with a setting, those that apply there."""
        applies = (Setting.GENERAL, setting)
        return tuple(x for x in self.leaves if x.axis == axis and (setting is None or x.setting in applies))

    def resolve(self, axis: Axis, text: str) -> Leaf | None:
        """The leaf that ``text`` names by slug, display name or alias, or None."""
        return _index(self).get((axis, fold(text)))

    def by_slug(self, axis: Axis, slug: str) -> Leaf | None:
        """The leaf with exactly this machine string, or None."""
        return next((x for x in self.leaves if x.axis == axis and x.slug == slug), None)

    def diagnosis(self, risk_source: str = "", failure_mode: str = "", harm: str = "") -> Diagnosis:
        """The diagnosis that these spellings name; an unknown spelling gives None on its axis."""

        def slug(axis: Axis, text: str) -> str | None:
            leaf = self.resolve(axis, text) if text else None
            return leaf.slug if leaf else None

        return Diagnosis(
            slug(Axis.RISK_SOURCE, risk_source), slug(Axis.FAILURE_MODE, failure_mode), slug(Axis.HARM, harm)
        )


@cache
def _index(taxonomy: Taxonomy) -> dict[tuple[Axis, str], Leaf]:
    return {(x.axis, fold(s)): x for x in taxonomy.leaves for s in (x.slug, x.name, *x.aliases)}


@cache
def builtin() -> Taxonomy:
    """The published leaves: 15 risk sources, 21 failure modes (and the unsplit parent of four), 11 harms."""
    folder = resources.files("gelert.core") / "axes"
    files = [f"{setting.value}.toml" for setting in Setting]
    return Taxonomy(tuple(leaf for file in files for leaf in _read((folder / file).read_text("utf-8"), file)))


_FIELDS = {"axis", "slug", "name", "family", "setting", "meaning", "aliases", "narrowed", "published"}


def _read(text: str, where: str) -> list[Leaf]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise TaxonomyError(f"expected TOML, got {fault} ({where})") from None
    if set(document) - {"leaf"}:
        raise TaxonomyError(f"expected only [[leaf]] tables, got {sorted(document)} ({where})")
    rows = document.get("leaf", [])
    if not isinstance(rows, list):
        raise TaxonomyError(f"expected [[leaf]] tables, got a single [leaf] ({where})")
    return [_leaf(row, f"{where}, leaf {number}") for number, row in enumerate(rows, start=1)]


def _leaf(row: dict[str, object], where: str) -> Leaf:
    if unknown := set(row) - _FIELDS:
        raise TaxonomyError(f"expected the fields {sorted(_FIELDS)}, got also {sorted(unknown)} ({where})")

    def text(key: str) -> str:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            raise TaxonomyError(f"expected a text under {key!r}, got {value!r} ({where})")
        return value

    if text("axis") not in set(Axis):
        raise TaxonomyError(f"expected an axis out of {[a.value for a in Axis]}, got {text('axis')!r} ({where})")
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", text("slug")):
        raise TaxonomyError(f"expected a snake_case slug, got {text('slug')!r} ({where})")
    try:
        setting = Setting(str(row.get("setting", "general")))
        narrowed = _narrowed(row.get("narrowed", {}))
        aliases = _texts(row.get("aliases", []))
    except ValueError as fault:
        raise TaxonomyError(f"{fault} ({where})") from None
    return Leaf(
        axis=Axis(text("axis")),
        slug=text("slug"),
        name=text("name"),
        family=text("family"),
        setting=setting,
        meaning=text("meaning"),
        aliases=aliases,
        narrowed=narrowed,
        published=row.get("published", True) is True,
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise ValueError(f"expected a list of texts under 'aliases', got {value!r}")
    return tuple(str(x) for x in value)


def _narrowed(value: object) -> tuple[tuple[Setting, str], ...]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a table of setting = text under 'narrowed', got {value!r}")
    return tuple((Setting(str(k)), str(v)) for k, v in value.items())


FAILURE_PARENT = "improper_tool_use"
"""ATBench-Claw's unsplit failure mode; the other releases split it into four."""

FAILURE_CHILDREN = (
    "incorrect_tool_parameters",
    "choosing_malicious_tool",
    "tool_misuse_in_specific_context",
    "failure_to_validate_tool_outputs",
)


def unsplit(diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with the four tool-use modes folded into their parent, to compare split with unsplit releases."""
    if diagnosis.failure_mode in FAILURE_CHILDREN:
        return replace(diagnosis, failure_mode=FAILURE_PARENT)
    return diagnosis


def selectable(leaves: Iterable[Leaf]) -> tuple[Leaf, ...]:
    """The leaves a guard may answer with: all but the unsplit parent."""
    return tuple(x for x in leaves if x.slug != FAILURE_PARENT)
