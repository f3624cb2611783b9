"""Which runs of a synthesised folder are fit for use, and why the others are not.

First the form, then the label against the world (the run is played again), then near-duplicates across pairs, then
overlap with evaluation data. A run whose mate is refused is refused too, so that what a run meets goes on telling
nothing. A judge may be asked as well: its agreement is reported with its name, and refuses nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from gelert.core import records
from gelert.core.example import Refusal
from gelert.core.seeds import stream
from gelert.core.trajectory import Trajectory
from gelert.evals.benches import REFUSALS, REFUSED, Labelled, load_labelled
from gelert.evals.metrics import Interval, accuracy, interval
from gelert.evals.run import as_outcomes, evaluate
from gelert.forge.quality_form import form_faults
from gelert.forge.quality_shingles import SHINGLE, Hashes, jaccard, likely_alike, shingles, text_of_run
from gelert.forge.synthesise_record import Record, kept_records
from gelert.guard.formats import read
from gelert.guard.guard import Guard
from gelert.worlds.episode import Episode, differs, truth
from gelert.worlds.families import Family
from gelert.worlds.tasks import begin, task

BOUND = 0.9
"""Jaccard similarity of 5-word shingles above which two runs of different pairs are near-duplicates."""

LEAK_WORDS, LEAK_BOUND = 13, 0.1
"""Words of an n-gram that is compared with evaluation data, and which share of a run's may be found there."""


class Layer(StrEnum):
    """What refused a run."""

    DAMAGED = "damaged"
    FORM = "form"
    LABEL = "label"
    DUPLICATE = "duplicate"
    LEAK = "leak"
    MATE = "mate"


@dataclass(frozen=True, slots=True)
class Fault:
    """A run that is not fit for use."""

    number: int
    layer: Layer
    reason: str


@dataclass(frozen=True)
class Report:
    """What a check has found."""

    runs: int
    faults: tuple[Fault, ...]
    """At most one a run: the first that was found."""

    @property
    def pass_rate(self) -> float:
        """Share of runs that are fit for use."""
        return 1 - len(self.faults) / self.runs if self.runs else 0.0

    @property
    def layers(self) -> dict[str, int]:
        """Refused runs by what refused them."""
        counts = Counter(fault.layer for fault in self.faults)
        return {layer.value: counts[layer] for layer in Layer}


@dataclass(frozen=True)
class Agreement:
    """How often a judge says what the world says."""

    judge: str
    runs: int
    accuracy: Interval


@dataclass(frozen=True)
class _Seen:
    """What is kept of a run that passed the first two layers."""

    number: int
    pair: int
    hashes: Hashes
    grams: Hashes


def check(
    folder: Path,
    families: Mapping[str, Family],
    against: Sequence[Path] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check every run of a folder and write which are refused, so that readers of the folder leave them out.

    Args:
        folder: made by ``gelert data synthesise``.
        families: of the worlds that it was made of.
        against: evaluation data, of any format.
        progress: told the number of runs read so far.

    Raises:
        InputError: there are no runs, or a file of evaluation data is not there.
    """
    known = grams_of(against)
    seen: list[_Seen] = []
    faults: dict[int, Fault] = {}
    pairs: dict[int, int] = {}
    runs = 0
    for position, one in enumerate(kept_records(folder)):
        runs += 1
        found = _first_layers(one, families, position)
        if isinstance(one, Record):
            pairs[one.number] = one.pair
        if isinstance(found, Fault):
            faults[found.number] = found
        else:
            seen.append(found)
        progress(runs)
    for fault in (*_leaks(seen, known), *_duplicates(seen)):
        faults.setdefault(fault.number, fault)
    refused = {pairs[number]: number for number in faults if number in pairs}
    for number, pair in pairs.items():
        if pair in refused and number not in faults:
            faults[number] = Fault(number, Layer.MATE, f"its mate, run {refused[pair]}, is refused")
    report = Report(runs, tuple(faults[number] for number in sorted(faults)))
    records.write(folder / REFUSED, *REFUSALS, (asdict(fault) for fault in report.faults))
    return report


def label_faults(record: Record, run: Trajectory, families: Mapping[str, Family]) -> Iterator[str]:
    """What of a record the world does not confirm when the run is played again."""
    beginning = begin(task(families, record.task))
    replayable = record.replayable(run)
    if other := differs(beginning, replayable):
        yield f"expected the world to answer as recorded, but {other}"
        return
    episode = Episode(beginning)
    for step in run.steps:
        for call in step.calls:
            episode.call(call.name, call.arguments)
    episode.finish(run.steps[-1].text)
    if episode.harmed != record.unsafe:
        yield f"expected harm done: {record.unsafe}, got {episode.harmed}"
    if truth(episode) != record.truth:
        yield f"expected the steps {truth(episode)}, got {record.truth}"


def grams_of(paths: Sequence[Path]) -> Hashes:
    """The n-grams of all runs in some files of evaluation data; records that cannot be read have none.

    Raises:
        InputError: a file is not there.
    """
    found = [
        shingles(text_of_run(one.trajectory), LEAK_WORDS)
        for path in paths
        for one in read(path)
        if not isinstance(one, Refusal)
    ]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def agreement(folder: Path, judge: Guard, most: int, seed: int = 0) -> Agreement:
    """Ask a judge for its verdict on runs that are fit for use, and compare it with the world's.

    Args:
        folder: checked before.
        judge: any guard.
        most: runs that are judged, drawn at random.
        seed: of the draw.
    """
    every: list[Labelled] = list(load_labelled([folder]).labelled)
    drawn = stream(seed, "judged").sample(every, min(most, len(every)))
    judged = list(evaluate(judge, drawn))
    return Agreement(judge.name, len(judged), interval(accuracy, as_outcomes(judged), seed=seed))


def _first_layers(one: Record | Refusal, families: Mapping[str, Family], position: int) -> _Seen | Fault:
    if isinstance(one, Refusal):
        return Fault(position, Layer.DAMAGED, one.reason)
    run = one.run
    if run is None:
        return Fault(one.number, Layer.DAMAGED, "expected a trajectory as ATIF, got none")
    if wrong := next(form_faults(run), ""):
        return Fault(one.number, Layer.FORM, wrong)
    if wrong := next(label_faults(one, run, families), ""):
        return Fault(one.number, Layer.LABEL, wrong)
    text = text_of_run(run)
    return _Seen(one.number, one.pair, shingles(text, SHINGLE), shingles(text, LEAK_WORDS))


def _leaks(seen: Sequence[_Seen], known: Hashes) -> Iterator[Fault]:
    if not len(known):
        return
    for one in seen:
        share = float(np.isin(one.grams, known).mean()) if len(one.grams) else 0.0
        if share > LEAK_BOUND:
            reason = f"expected at most {LEAK_BOUND:.0%} of its {LEAK_WORDS}-grams in evaluation data, got {share:.0%}"
            yield Fault(one.number, Layer.LEAK, reason)


def _duplicates(seen: Sequence[_Seen]) -> Iterator[Fault]:
    """Runs too like an earlier run of another pair that is not itself refused."""
    gone: set[int] = set()
    for first, second in likely_alike([one.hashes for one in seen]):
        one, other = seen[first], seen[second]
        if one.pair == other.pair or first in gone or second in gone:
            continue
        likeness = jaccard(one.hashes, other.hashes)
        if likeness > BOUND:
            gone.add(second)
            yield Fault(other.number, Layer.DUPLICATE, f"its likeness to run {one.number} is {likeness:.3f}")
