"""Labelled examples out of files: which source each comes from, and how they may be split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gelert.core.example import Example, Gold, Refusal
from gelert.core.seeds import stream
from gelert.guard.formats import read


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example whose gold label is known."""

    example: Example
    source: str
    """Name of the data set: the file's folder."""

    @property
    def gold(self) -> Gold:
        """Its gold label."""
        assert self.example.gold is not None
        return self.example.gold

    @property
    def unsafe(self) -> bool:
        """Whether it is labelled unsafe."""
        return self.gold.unsafe is True

    @property
    def group(self) -> str:
        """Examples of one group stay on one side of every split."""
        return f"{self.source}/{self.gold.group or self.key}"

    @property
    def key(self) -> str:
        """Identifies it within its data set."""
        origin = self.example.trajectory.origin
        return f"{Path(origin.path).name}#{origin.record}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a set of paths held."""

    labelled: tuple[Labelled, ...]
    unlabelled: tuple[Example, ...]
    refused: tuple[Refusal, ...]


def load_labelled(paths: Iterable[Path]) -> Loaded:
    """Read every file and folder; examples without a safe/unsafe label are kept apart."""
    labelled: list[Labelled] = []
    unlabelled: list[Example] = []
    refused: list[Refusal] = []
    for path in paths:
        for found in read(path):
            if isinstance(found, Refusal):
                refused.append(found)
            elif found.gold is None or found.gold.unsafe is None:
                unlabelled.append(found)
            else:
                labelled.append(Labelled(found, source_name(found)))
    return Loaded(tuple(labelled), tuple(unlabelled), tuple(refused))


def source_name(example: Example) -> str:
    """The data set an example belongs to: the folder of its file."""
    return Path(example.trajectory.origin.path).resolve().parent.name


def group_folds(groups: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """Positions of each fold's test part: whole groups, shuffled, folds of about equal size."""
    members: dict[str, list[int]] = {}
    for position, name in enumerate(groups):
        members.setdefault(name, []).append(position)
    names = sorted(members)
    stream(seed, "folds").shuffle(names)
    parts: list[list[int]] = [[] for _ in range(min(folds, len(names)))]
    for name in sorted(names, key=lambda n: -len(members[n])):
        min(parts, key=len).extend(members[name])
    return [sorted(p) for p in parts]
