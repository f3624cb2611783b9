"""Labelled examples out of files: which source each comes from, and how they may be split.

A folder that ``gelert data synthesise`` has made is read whole: its runs without those that ``gelert data check`` has
refused, under the source name ``worlds``, grouped by family of tasks.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.example import Example, Gold, Refusal
from gelert.core.seeds import stream
from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Origin
from gelert.guard.formats import read, read_value

RECORDS, REFUSED = "records.jsonl", "refused.jsonl"
"""Files of a synthesised folder: its runs, and which of them were refused."""

SYNTHESISED, REFUSALS = ("worlds-run", 1), ("worlds-refusal", 1)
"""Kind and version of their records."""

WORLDS = "worlds"
"""The source that synthesised runs go by."""


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
        made = synthesised_in(path)
        for found in synthesised(made) if made else read(path):
            if isinstance(found, Refusal):
                refused.append(found)
            elif found.gold is None or found.gold.unsafe is None:
                unlabelled.append(found)
            else:
                labelled.append(Labelled(found, WORLDS if made else source_name(found)))
    return Loaded(tuple(labelled), tuple(unlabelled), tuple(refused))


def synthesised_in(path: Path) -> Path | None:
    """The file of runs that ``gelert data synthesise`` has made, if ``path`` is one or a folder with one."""
    file = path / RECORDS if path.is_dir() else path
    if file.name != RECORDS or not file.is_file():
        return None
    with file.open("rb") as opened:
        return file if f'"kind":"{SYNTHESISED[0]}"'.encode() in opened.readline() else None


@dataclass(frozen=True, slots=True)
class Whole:
    """A line of a file of records whose hash fits."""

    number: int
    """One-based."""
    row: dict[str, object]


Line = Whole | Refusal


def synthesised_rows(path: Path) -> Iterator[Line]:
    """The rows of a file of runs, line by line; one that is torn or changed is refused and the others are still read.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("r", encoding="utf-8", errors="surrogatepass") as opened:
            for number, line in enumerate(opened, start=1):
                row = _row(line)
                reason = f"expected a whole {SYNTHESISED[0]} record of version {SYNTHESISED[1]}, got another line"
                yield Whole(number, row) if row is not None else Refusal(str(path), number - 1, number, reason)
    except OSError as fault:
        raise InputError(f"expected a folder made by gelert data synthesise, got {fault.strerror} ({path})") from None


def synthesised(path: Path) -> Iterator[Example | Refusal]:
    """The runs of a synthesised folder's file as labelled examples, without those that a check has refused."""
    listed = path.with_name(REFUSED)
    without = {row["number"] for row in records.read(listed, *REFUSALS)} if listed.exists() else set[object]()
    for line in synthesised_rows(path):
        if isinstance(line, Refusal):
            yield line
        elif line.row["number"] not in without:
            yield _example(line.row, path)


def _row(line: str) -> dict[str, object] | None:
    """The data of a line, if writing them again gives the line to the byte."""
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    data = cast("dict[str, object]", found).get("data") if isinstance(found, dict) else None
    if not isinstance(data, dict) or records.encode(*SYNTHESISED, cast("dict[str, object]", data)) + "\n" != line:
        return None
    return cast("dict[str, object]", data)


def _example(row: dict[str, object], path: Path) -> Example | Refusal:
    number = cast("int", row["number"])
    found = read_value(row["trajectory"], format="atif")
    if isinstance(found, Refusal):
        return replace(found, path=str(path), record=number)
    truth = cast("dict[str, int | None]", row["truth"])
    gold = Gold(
        unsafe=row["unsafe"] is True,
        diagnosis=Diagnosis(*cast("list[str | None]", row["diagnosis"])),
        group=str(row["family"]),
        reason=str(row["reason"]),
        failed=truth["failed"],
        attributes=(("outcome", str(row["outcome"])), ("task", str(row["task"]))),
    )
    return Example(replace(found.trajectory, origin=Origin(str(path), number, WORLDS)), gold)


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
