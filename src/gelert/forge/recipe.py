"""The recipe of a guard, from labelled runs to a card: what a TOML file holds, and what the flags of a command say.

A wrong field is named, with all others that are wrong. Paths are relative to the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator

from gelert.core.errors import InputError
from gelert.core.records import file_digest
from gelert.forge.influence.problem import Method
from gelert.forge.influence.registry import named
from gelert.forge.make_guard import DEFAULT, Design
from gelert.forge.recipe_file import Strict, document, fields

GREEDY = "greedy"
"""The method that scores anew after every pick; see ``gelert.forge.purify.greedy``."""

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class DataSection(Strict):
    """Labelled runs."""

    folders: tuple[Path, ...] = ()
    """Files and folders, those of ``gelert data synthesise`` among them; each folder is a source."""
    choices: Path | None = None
    """A file that ``gelert data purify`` has written: runs that it names and does not keep are left out."""


class WorldsSection(Strict):
    """Runs that are synthesised, and found again by the next run of the recipe."""

    runs: Count
    seed: Seed = 0


class PurifySection(Strict):
    """Which runs are worth it: all but targets and twins are candidates, and the best of them are kept."""

    budget: Count
    """How many candidates are kept at most."""
    method: str = GREEDY
    targets: tuple[str, ...] = ()
    """Sources whose runs are to be judged rightly; all of ``[data]`` where none is named.

    A source that is measured is no target of what is fitted for its figure; with no other target nothing is purified.
    """

    @field_validator("method")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name != GREEDY:
            try:
                named(name)
            except InputError as fault:
                raise ValueError(f"{fault} (or {GREEDY!r})") from None
        return name

    def scorer(self, seed: int) -> Method | None:
        """What scores each candidate once; None for the greedy choice."""
        return None if self.method == GREEDY else named(self.method, seed)


class FitSection(Strict):
    """The guard's design: the default one, but for these."""

    model: str = DEFAULT.model
    ridge: Annotated[float, Field(gt=0)] = DEFAULT.recipe.ridge
    twins: Annotated[int, Field(ge=0)] = 8
    """Variants of each pair of twins that are added."""

    def design(self) -> Design:
        """As everything else sees it."""
        return Design.of(self.model, self.ridge)


class ValidateSection(Strict):
    """Whether the recipe is measured before the card is written."""

    on: bool = True


class GuardRecipe(Strict):
    """A guard, end to end."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    name: str = "own"
    seed: Seed = 0
    """Of twins, folds, bootstrap and methods that draw."""
    data: DataSection = DataSection()
    worlds: WorldsSection | None = None
    purify: PurifySection | None = None
    fit: FitSection = FitSection()
    validation: ValidateSection = Field(default=ValidateSection(), alias="validate")

    @classmethod
    def load(cls, path: Path) -> "GuardRecipe":
        """The recipe of a file.

        Raises:
            InputError: it cannot be read, or fields are wrong or unknown.
        """
        return cls.of(document(path), path.parent, str(path))

    @classmethod
    def of(cls, found: Mapping[str, object], base: Path, where: str) -> "GuardRecipe":
        """The recipe of a document, its paths taken from ``base``; ``where`` is named in errors.

        Raises:
            InputError: fields are wrong or unknown, a path is not there, or there are no runs to fit to.
        """
        recipe = fields(cls, found, where, "a guard's recipe")
        folders = tuple(base / folder for folder in recipe.data.folders)
        choices = base / recipe.data.choices if recipe.data.choices else None
        listed = {f"data.folders.{place}": path for place, path in enumerate(folders)}
        absent = [f"{name}: {path}" for name, path in listed.items() if not path.exists()]
        if choices and not choices.is_file():
            absent.append(f"data.choices: {choices}")
        if absent:
            raise InputError(f"expected files and folders that are there, got {'; '.join(absent)} ({where})")
        if not folders and recipe.worlds is None:
            raise InputError(f"expected data.folders or worlds.runs to fit a guard on, got neither ({where})")
        return recipe.model_copy(update={"data": DataSection(folders=folders, choices=choices)})

    def words(self) -> dict[str, str]:
        """For the card: what was done, without where it was done."""
        told = {"data": ", ".join(path.resolve().name for path in self.data.folders) or "none"}
        if self.data.choices:
            told["choices"] = f"{self.data.choices.name}, SHA-256 {file_digest(self.data.choices)}"
        if self.worlds:
            told["worlds"] = f"{self.worlds.runs} runs synthesised, seed {self.worlds.seed}"
        if self.purify:
            targets = ", ".join(self.purify.targets) or "all of the data"
            told["purify"] = f"at most {self.purify.budget} runs kept ({self.purify.method}), targets {targets}"
        measured = "grouped folds, and each source left out" if self.validation.on else "off"
        return told | {"twins": f"{self.fit.twins} variants of each pair", "validate": measured, "seed": str(self.seed)}
