"""What a synthesised folder holds and what trivial rules reach on it: a dataset card, as JSON and as Markdown."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.core.seeds import stream
from gelert.core.taxonomy import Axis, builtin, selectable
from gelert.core.trajectory import Trajectory
from gelert.evals.baselines import BASELINES, require
from gelert.evals.benches import RECORDS, Labelled, group_folds, load_labelled
from gelert.evals.metrics import FIGURES, interval, outcomes
from gelert.forge.quality_shingles import text_of_run
from gelert.forge.synthesise_record import Record, kept_records

FOLDS = 5
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Floor:
    """What a trivial rule reaches on runs of families that it was not fitted to, with a 95 % interval."""

    rule: str
    accuracy: tuple[float, float, float]
    auc: tuple[float, float, float]


@dataclass(frozen=True)
class DataCard:
    """Counts, lengths and floors of the runs that are fit for use."""

    runs: int
    refused: int
    counts: Mapping[str, Mapping[str, int]]
    """Runs by outcome, setting, world, entry, wording, manner and agent."""
    leaves: Mapping[str, Mapping[str, int]]
    """Unsafe runs by leaf, every leaf of each axis."""
    tuples: Mapping[str, int]
    """Unsafe runs by joint tuple."""
    unsafe_by_entry: Mapping[str, float]
    """Share of unsafe runs."""
    steps: Mapping[str, int]
    """Quantiles."""
    words: Mapping[str, int]
    """Quantiles."""
    floors: tuple[Floor, ...]
    floor_runs: int
    """Runs that the floors were measured on: whole pairs, drawn at random."""

    def row(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)


@dataclass
class _Tally:
    counts: Mapping[str, Counter[str]] = field(default_factory=lambda: {name: Counter[str]() for name in _COUNTED})
    leaves: Mapping[Axis, Counter[str]] = field(default_factory=lambda: {axis: Counter[str]() for axis in Axis})
    tuples: Counter[str] = field(default_factory=Counter[str])
    unsafe: Counter[str] = field(default_factory=Counter[str])
    steps: list[int] = field(default_factory=list[int])
    words: list[int] = field(default_factory=list[int])

    def add(self, one: Record, run: Trajectory) -> None:
        for name in _COUNTED:
            self.counts[name][str(getattr(one, name))] += 1
        self.unsafe[one.entry] += one.unsafe
        self.steps.append(len(run.steps))
        self.words.append(len(re.findall(r"\w+", text_of_run(run))))
        if one.unsafe:
            for axis, slug in zip(Axis, one.diagnosis, strict=True):
                self.leaves[axis][str(slug)] += 1
            self.tuples[" / ".join(map(str, one.diagnosis))] += 1


_COUNTED = ("outcome", "setting", "world", "scenario", "entry", "wording", "manner", "agent")


def data_card(folder: Path, most: int, seed: int = 0) -> DataCard:
    """Describe a folder.

    Args:
        folder: made by ``gelert data synthesise``; runs that a check has refused are left out.
        most: runs on which floors are fitted.
        seed: of the draw, the folds and the bootstrap.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    require()
    labelled = load_labelled([folder]).labelled
    fit = {one.example.trajectory.origin.record for one in labelled}
    tally, pairs, every = _Tally(), dict[int, int](), 0
    for one in kept_records(folder):
        every += 1
        if isinstance(one, Record) and one.number in fit and (run := one.run):
            tally.add(one, run)
            pairs[one.number] = one.pair
    drawn = _draw(labelled, pairs, most, seed)
    return DataCard(
        runs=len(fit),
        refused=every - len(fit),
        counts={name: dict(counts.most_common()) for name, counts in tally.counts.items()},
        leaves={
            axis.value: {leaf.slug: tally.leaves[axis][leaf.slug] for leaf in selectable(builtin().on(axis))}
            for axis in Axis
        },
        tuples=dict(tally.tuples.most_common()),
        unsafe_by_entry={name: tally.unsafe[name] / count for name, count in tally.counts["entry"].items()},
        steps=_quantiles(tally.steps),
        words=_quantiles(tally.words),
        floors=floors(drawn, seed),
        floor_runs=len(drawn),
    )


def floors(runs: Sequence[Labelled], seed: int) -> tuple[Floor, ...]:
    """Each baseline on folds of whole families; nothing where there are fewer than two families."""
    groups = [one.group for one in runs]
    if len(set(groups)) < 2:
        return ()
    unsafe = [one.unsafe for one in runs]
    found: list[Floor] = []
    for rule in BASELINES:
        risks = _out_of_fold(rule, runs, groups, seed)
        seen = outcomes(unsafe, (risks >= 0.5).tolist(), risks.tolist(), groups)
        accuracy, auc = (interval(FIGURES[name], seen, seed=seed) for name in ("accuracy", "auc"))
        found.append(Floor(rule, (accuracy.value, accuracy.low, accuracy.high), (auc.value, auc.low, auc.high)))
    return tuple(found)


def markdown(card: DataCard, config: Mapping[str, object]) -> str:
    """The card for people.

    Args:
        card: of a folder.
        config: that replays the folder.
    """
    unsafe = card.counts["outcome"].get("unsafe", 0)
    lines = [
        "# Synthesised runs out of Gelert's worlds",
        "",
        f"{card.runs} runs in `{RECORDS}`, {unsafe} of them unsafe; {card.refused} more were refused by the check.",
        "Labels, diagnoses and steps are read off the state of a simulated world; no text decided any of them.",
        "Each unsafe run has a safe mate of the same task that differs in behaviour only.",
        "",
        f"Made with seed {config['seed']}, n {config['n']}, Gelert {config['version']}; worlds"
        f" `{str(config['worlds_sha256'])[:16]}`. Words rewritten by: {config['rewrite'] or 'nobody'}.",
        "",
        "## Floors",
        "",
        f"On {card.floor_runs} runs, {FOLDS} folds of whole families of tasks, with 95 % intervals (families drawn"
        " together). A guard's figure on these data says nothing beyond what it has above them.",
        "",
        *_table(("rule", "accuracy", "AUC"), ((one.rule, _told(one.accuracy), _told(one.auc)) for one in card.floors)),
        "",
        "## Lengths",
        "",
        *_table(("quantile", "steps", "words"), ((name, card.steps[name], card.words[name]) for name in card.steps)),
    ]
    shares = ((name, f"{share:.3f}") for name, share in sorted(card.unsafe_by_entry.items()))
    lines += ["", "## Share of unsafe runs by where the risk enters", "", *_table(("entry", "unsafe"), shares)]
    for name, counts in card.counts.items():
        lines += ["", f"## Runs by {name}", "", *_table((name, "runs"), counts.items())]
    for axis, counts in card.leaves.items():
        lines += ["", f"## Unsafe runs by {axis.replace('_', ' ')}", "", *_table(("leaf", "runs"), counts.items())]
    lines += ["", "## Unsafe runs by joint tuple", "", *_table(("tuple", "runs"), card.tuples.items())]
    return "\n".join(lines) + "\n"


def _out_of_fold(rule: str, runs: Sequence[Labelled], groups: Sequence[str], seed: int) -> NDArray[np.float64]:
    risks = np.zeros(len(runs), np.float64)
    for test in group_folds(groups, FOLDS, seed):
        held = set(test)
        train = [one for at, one in enumerate(runs) if at not in held]
        found = BASELINES[rule](
            [one.example.trajectory for one in train],
            [one.unsafe for one in train],
            [runs[at].example.trajectory for at in test],
        )
        risks[test] = found
    return risks


def _draw(labelled: Sequence[Labelled], pairs: Mapping[int, int], most: int, seed: int) -> list[Labelled]:
    """Runs of whole pairs, about ``most`` of them, in their order."""
    names = sorted(set(pairs.values()))
    kept = set(stream(seed, "floors").sample(names, min(len(names), -(-most // 2))))
    return [one for one in labelled if pairs.get(one.example.trajectory.origin.record) in kept]


def _quantiles(lengths: Sequence[int]) -> dict[str, int]:
    found = np.quantile(lengths, QUANTILES).tolist() if lengths else [0.0] * len(QUANTILES)
    return {f"{share:.0%}": round(value) for share, value in zip(QUANTILES, found, strict=True)}


def _told(figure: tuple[float, float, float]) -> str:
    value, low, high = figure
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    found = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*found, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
