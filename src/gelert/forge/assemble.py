"""From a recipe to the runs that a guard is fitted to: gathered, synthesised, and purified anew for every figure.

Targets are what purification aims at, so their labels are in its choice. A source that is measured, and one that gives
the card's threshold, is therefore no target of the fit that judges it.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.core.example import Refusal
from gelert.core.records import digest
from gelert.evals.benches import Labelled, load_labelled
from gelert.forge import purify
from gelert.forge.influence.heads import head_problem
from gelert.forge.make_guard import Figures
from gelert.forge.pool import Pool
from gelert.forge.recipe import GuardRecipe
from gelert.forge.synthesise_disk import Config, begin_folder, fill
from gelert.forge.twins import SOURCE, twins
from gelert.forge.validate import Row, axes, in_source, left_out, table

Places = NDArray[np.intp]

FOLDS = 5
"""Inside a source."""


@dataclass(frozen=True)
class Gathered:
    """The runs of a recipe before any is purified away."""

    examples: tuple[Labelled, ...]
    data: frozenset[str]
    """The sources of ``[data]``."""
    refused: tuple[Refusal, ...]
    dropped: int
    """How many the file of choices leaves out."""


def worlds_folder(recipe: GuardRecipe, features: Path | None) -> Path:
    """Where the recipe's synthesised runs are kept: under ``features``, by the hash of what gives their bytes.

    Raises:
        InputError: there is no such folder.
    """
    if features is None:
        raise InputError("expected --features FOLDER to keep the synthesised runs in, got none")
    return features / f"worlds-{digest(json.loads(json.dumps(_config(recipe).written())))[:16]}"


def synthesise(recipe: GuardRecipe, folder: Path) -> Iterator[int]:
    """Make the runs of ``[worlds]`` that are not there yet; yields how many are done."""
    begun = begin_folder(folder, _config(recipe))
    for made, _ in enumerate(fill(begun), start=1):
        yield begun.done + made


def gather(recipe: GuardRecipe, worlds: Path | None) -> Gathered:
    """The runs of the data, of the folder ``worlds``, and twins.

    Raises:
        InputError: a file of choices does not fit the runs, a target is no source, or nothing is left to choose from.
    """
    data = load_labelled(recipe.data.folders)
    made = load_labelled([worlds] if worlds else [])
    given = [*data.labelled, *made.labelled]
    choices = recipe.data.choices
    chosen = purify.kept(given, purify.read(choices), str(choices)) if choices else given
    every = (*chosen, *twins(recipe.fit.twins, recipe.seed))
    own = frozenset(e.source for e in data.labelled)
    if recipe.purify:
        _can_be_purified(recipe.purify.targets or own, frozenset(e.source for e in every))
    return Gathered(every, own, (*data.refused, *made.refused), len(given) - len(chosen))


@dataclass(frozen=True)
class Assembly:
    """A recipe's runs, read, and which of them are fitted to."""

    recipe: GuardRecipe
    gathered: Gathered
    pool: Pool
    _parts: dict[str | None, Places] = field(default_factory=dict[str | None, Places], repr=False)

    def part(self, without: str | None = None) -> Places:
        """Positions of the runs to fit to; of the source ``without`` all are there, and nothing was chosen by them."""
        if without not in self._parts:
            self._parts[without] = self._chosen(without)
        return self._parts[without]

    def measured(self) -> Figures:
        """What the recipe is worth: the verdict with runs purified anew for each source, the axes before any is."""
        recipe, fit, mixed = self.recipe, self.recipe.fit.design().recipe, self.pool.mixed()
        named = tuple(axes(self.pool, fit, seed=recipe.seed))
        if recipe.purify is None:
            return Figures(tuple(table(self.gathered.examples, self.pool, fit, seed=recipe.seed)), named)
        inside: list[Row] = []
        outside: list[Row] = []
        for name in mixed:
            places = self.part(name)
            runs, own = [self.gathered.examples[i] for i in places], self.pool.take(places)
            inside += in_source(name, runs, own, fit, folds=FOLDS, seed=recipe.seed)
            outside += left_out(name, runs, own, fit) if len(mixed) > 1 else []
        return Figures((*inside, *outside), named)

    def _chosen(self, without: str | None) -> Places:
        """All but the candidates that are not kept; all where no target or no candidate is left without the source."""
        recipe, pool, examples = self.recipe, self.pool, self.gathered.examples
        every = np.arange(len(examples))
        if recipe.purify is None:
            return every
        aimed = np.isin(pool.source, recipe.purify.targets or sorted(self.gathered.data))
        others = pool.source != (without or "")
        targets = np.flatnonzero(aimed & others)
        offered = np.flatnonzero(~aimed & others & (pool.source != SOURCE))
        if not len(targets) or not len(offered):
            return every
        own = np.concatenate([offered, targets])
        aims = range(len(offered), len(own))
        problem = head_problem(pool.take(own), [examples[i] for i in own], aims, damping=recipe.fit.ridge)
        names = purify.Names(
            tuple(purify.name_of(examples[i]) for i in offered),
            tuple(purify.name_of(examples[i]) for i in targets),
            tuple(purify.stratum(pool.diagnosis[i], unsafe=bool(pool.unsafe[i])) for i in offered),
            tuple(pool.group[i] for i in offered),
        )
        choices = purify.purify(problem, names, recipe.purify.budget, method=recipe.purify.scorer(recipe.seed))
        lost = [i for i, choice in zip(offered, choices, strict=True) if choice.fate is not purify.Fate.KEEP]
        return np.setdiff1d(every, lost)


def _can_be_purified(targets: Collection[str], sources: frozenset[str]) -> None:
    if unknown := sorted(set(targets) - sources):
        raise InputError(
            f"expected purify.targets among the sources {', '.join(sorted(sources))}, got {', '.join(unknown)}"
        )
    if not targets or not sources - {SOURCE} - set(targets):
        raise InputError(
            f"expected purify.targets and runs beside them to choose from, got the sources {', '.join(sorted(sources))}"
            f" and {', '.join(sorted(targets)) or 'none'} as targets; add data.folders or worlds, or name other targets"
        )


def _config(recipe: GuardRecipe) -> Config:
    assert recipe.worlds is not None
    return Config(recipe.worlds.runs, recipe.worlds.seed)
