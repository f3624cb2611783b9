"""A folder of synthesised runs: planned, made by one or many workers, written in order, and resumed where it stopped.

``config.json`` says what replays it, ``plan.json`` what is to be made, ``records.jsonl`` holds the runs, a line each in
the order of their numbers. What is there is a prefix of what the same config gives; so a folder that was interrupted
ends up with the same bytes as one that was not.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import cast

from gelert.backends.base import Backend, in_order
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis
from gelert.core.trajectory import Setting
from gelert.evals.benches import RECORDS, SYNTHESISED, Whole, synthesised_rows
from gelert.forge.sample import Item, Outcome, coverage, sample
from gelert.forge.surface_rewrite import Rewriter, Rewriting
from gelert.forge.synthesise import Synthesiser
from gelert.forge.synthesise_record import Record
from gelert.spread.workers import HERE, Workers, reachable
from gelert.worlds.catalogue import catalogue
from gelert.worlds.families import Family
from gelert.worlds.tasks import task

CONFIG, PLAN = "config.json", "plan.json"
CHUNK = 16
"""Items that a worker is given at once."""


@dataclass(frozen=True)
class Config:
    """What is to be made; the same config gives the same bytes, unless a model rewrites them."""

    n: int
    seed: int = 0
    settings: tuple[Setting, ...] = ()
    """All where there are none."""
    worlds: tuple[str, ...] = ()
    """Names or files; the whole catalogue where there are none."""
    rewrite: str = ""
    """The model that rewrites the agents' words; empty for none."""

    def written(self) -> dict[str, object]:
        """As it is kept, with the version of the program and the hash of the worlds."""
        return {**asdict(self), "version": version("gelert"), "worlds_sha256": digest_of(self.worlds)}


def config_of(folder: Path) -> dict[str, object]:
    """The config that made a folder, as ``Config.written`` gave it.

    Raises:
        InputError: there is none.
    """
    path = folder / CONFIG
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f"expected a folder made by gelert data synthesise, got {fault} ({path})") from None
    if not isinstance(found, dict) or not isinstance(cast("dict[str, object]", found).get("worlds"), list):
        raise InputError(f"expected a config with worlds, got something else ({path}); make the folder again")
    return cast("dict[str, object]", found)


def families_of(folder: Path) -> dict[str, Family]:
    """The families of the worlds that a folder was made of.

    Raises:
        InputError: the folder has no config, or the worlds are not those any more.
    """
    config = config_of(folder)
    worlds = tuple(map(str, cast("list[object]", config["worlds"])))
    if digest_of(worlds) != config.get("worlds_sha256"):
        raise InputError(f"expected the worlds that {folder} was made of, got others under their names; make it again")
    return catalogue(worlds)


def digest_of(worlds: Sequence[str]) -> str:
    """SHA-256 of the worlds' sources."""
    found = {family.world.name: dict(family.world.source) for family in catalogue(worlds).values()}
    return records.digest(found)


@dataclass(frozen=True)
class Begun:
    """A folder that is ready to be filled."""

    folder: Path
    config: Config
    items: tuple[Item, ...]
    done: int
    """Runs that are there."""
    dropped: str
    """Which line was torn or changed; it and those after it are made again. Empty where none was."""


def begin_folder(folder: Path, config: Config) -> Begun:
    """Plan, or find the plan of an earlier run and what is there of it.

    Raises:
        InputError: the folder was made by another config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.written(), indent=1) + "\n"
    kept = folder / CONFIG
    if kept.exists() and kept.read_text(encoding="utf-8") != text:
        raise InputError(
            f"expected the config that made {folder}, got another seed, number, setting, model, version or catalogue;"
            f" choose another folder or remove it (compare {kept})"
        )
    items = tuple(sample(catalogue(config.worlds), config.n, config.seed, config.settings))
    (folder / PLAN).write_text(_plan(items), encoding="utf-8")
    kept.write_text(text, encoding="utf-8")
    done, dropped = _whole_lines(folder / RECORDS)
    return Begun(folder, config, items, done, dropped)


def fill(begun: Begun, workers: Workers = HERE, backend: Backend | None = None) -> Iterator[Rewriting | None]:
    """Make what is missing, a record at a time; each is on disk before the next one is asked for.

    Args:
        begun: the folder.
        workers: who makes them.
        backend: rewrites the agents' words, where there is one.
    """
    todo = begun.items[begun.done :]
    with closing(_made(begun.config.worlds, todo, workers)) as made:
        if backend is None:
            for one in made:
                _write(begun.folder, one)
                yield None
        else:
            work = Rewriter(backend, catalogue(begun.config.worlds)).rewritten
            for rewriting in in_order(work, made, backend.concurrency):
                _write(begun.folder, rewriting.record)
                yield rewriting


def _write(folder: Path, one: Record) -> None:
    records.append(folder / RECORDS, *SYNTHESISED, one.row())


def _made(worlds: Sequence[str], todo: Sequence[Item], workers: Workers) -> Generator[Record]:
    if workers.alone:
        yield from map(Synthesiser(catalogue(worlds)).make, todo)
        return
    names = [_Sent(one.number, one.pair, one.task.name, one.outcome.value, one.agent, one.draw) for one in todo]
    parts = (names[at : at + CHUNK] for at in range(0, len(names), CHUNK))
    found = tuple(reachable(one) if one.endswith(".json") else one for one in worlds)
    yield from chain.from_iterable(workers.in_order(partial(_maker, found), parts))


@dataclass(frozen=True, slots=True)
class _Sent:
    """An item as it goes to another worker."""

    number: int
    pair: int
    task: str
    outcome: str
    agent: str
    draw: int


def _maker(worlds: Sequence[str]) -> Callable[[Sequence[_Sent]], list[Record]]:
    """In another process, which holds its own catalogue: compiled tools are closures and cannot be sent."""
    synthesiser = Synthesiser(catalogue(worlds))

    def make(sent: _Sent) -> Record:
        found = task(synthesiser.families, sent.task)
        return synthesiser.make(Item(sent.number, sent.pair, found, Outcome(sent.outcome), sent.agent, sent.draw))

    return lambda part: list(map(make, part))


def _whole_lines(path: Path) -> tuple[int, str]:
    """How many lines are whole; the first that is not, and what follows it, is cut off and named."""
    if not path.exists():
        return 0, ""
    count, bad = 0, ""
    for line in synthesised_rows(path):
        if not isinstance(line, Whole) or line.row.get("number") != count:
            bad = f"{path} line {count + 1}"
            break
        count += 1
    if bad:
        with path.open("rb+") as opened:
            size = sum(len(opened.readline()) for _ in range(count))
            opened.truncate(size)
    return count, bad


def _plan(items: Sequence[Item]) -> str:
    rows = [
        {"number": one.number, "pair": one.pair, "task": one.task.name, "outcome": one.outcome, "agent": one.agent}
        for one in items
    ]
    return json.dumps({"coverage": counted(items), "items": rows}, indent=1) + "\n"


def counted(items: Sequence[Item]) -> dict[str, object]:
    """The coverage of a plan as a JSON object."""
    found = coverage(items)
    return {
        "runs": len(items),
        "outcomes": dict(found.outcomes),
        "settings": dict(found.settings),
        "scenarios": dict(found.scenarios),
        "wordings": dict(sorted(found.wordings.items())),
        "unsafe_share_attacked": share(found.attacked),
        "unsafe_share_not_attacked": share(found.unattacked),
        "unsafe_share_by_entry": {name: share(counts) for name, counts in sorted(found.entries.items())},
        "leaves": {axis.value: dict(found.leaves[axis].most_common()) for axis in Axis},
        "leaves_missing": found.missing(),
        "joint_tuples": dict(found.tuples.most_common()),
    }


def share(counts: tuple[int, int]) -> float:
    """Of unsafe runs, four places; 0 where there are no runs."""
    unsafe, every = counts
    return round(unsafe / every, 4) if every else 0.0
