"""Judges a data set with a guard, record by record: a run can be stopped and goes on where it stood."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gelert.backends.base import in_order
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis, Diagnosis
from gelert.core.trajectory import Role
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict
from gelert.evals.benches import Labelled
from gelert.evals.metrics import FIGURES, Interval, Outcomes, interval, macro_f1, outcomes
from gelert.guard.guard import Guard

KIND, VERSION = "eval", 1


@dataclass(frozen=True, slots=True)
class Judged:
    """One example, what was true and what the guard said."""

    guard: str
    source: str
    key: str
    group: str
    content: str
    """Hash of the trajectory, so that a changed file is noticed."""
    unsafe: bool
    alarm: bool | None
    """None if unreadable."""
    risk: float
    seconds: float
    """From the question to the verdict, with as many others under way as the guard is best asked at once."""
    steps: int
    gold: tuple[str | None, str | None, str | None]
    """Risk source, failure mode, harm as labelled."""
    said: tuple[str | None, str | None, str | None]
    reason: str = ""
    """Why it was unreadable."""
    failed: int | None = None
    """Step at which the agent went wrong, as labelled."""
    named: tuple[int, ...] = ()
    """Steps that the verdict names, the weightiest first."""
    acted: tuple[int, ...] = ()
    """Steps of the agent."""


def evaluate(guard: Guard, examples: Sequence[Labelled], out: Path | None = None) -> Iterator[Judged]:
    """Judge each example, as many at once as the guard is best asked; the answers come in the order of the examples.

    With ``out``, each answer is appended there as soon as it is known, so that none is lost when the run is stopped,
    and those already there are not asked again.

    Raises:
        InputError: ``out`` holds answers of another guard.
    """
    done = {(j.source, j.key, j.content): j for j in saved(out)} if out and out.exists() else {}
    if other := {j.guard for j in done.values()} - {guard.name}:
        raise InputError(f"expected answers of guard {guard.name!r} in {out}, got {sorted(other)}; choose another file")
    writing = threading.Lock()

    def answer(item: Labelled) -> Judged:
        content = records.digest(asdict(item.example.trajectory))
        found = done.get((item.source, item.key, content))
        if found is None:
            found = _judge(guard, item, content)
            if out:
                with writing:
                    records.append(out, KIND, VERSION, asdict(found))
        return found

    yield from in_order(answer, examples, guard.concurrency)


def saved(path: Path) -> list[Judged]:
    """The answers of an earlier run."""
    return [_judged(row) for row in records.read(path, KIND, VERSION)]


def figures(judged: Sequence[Judged], *, draws: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Every figure of ``gelert.evals.metrics`` with its interval."""
    o = as_outcomes(judged)
    return {name: interval(figure, o, draws=draws, seed=seed) for name, figure in FIGURES.items()}


def as_outcomes(judged: Sequence[Judged]) -> Outcomes:
    """The answers as arrays."""
    return outcomes(
        [j.unsafe for j in judged], [j.alarm for j in judged], [j.risk for j in judged], [j.group for j in judged]
    )


def axis_figures(judged: Sequence[Judged]) -> dict[Axis, tuple[int, float, float, float]]:
    """Per axis, over unsafe runs labelled there: how many, accuracy, macro-F1, the commonest label's accuracy."""
    found: dict[Axis, tuple[int, float, float, float]] = {}
    for place, axis in enumerate(Axis):
        pairs = [(j.gold[place], j.said[place]) for j in judged if j.unsafe and j.gold[place] is not None]
        if pairs:
            truth = [str(t) for t, _ in pairs]
            said = [s for _, s in pairs]
            right = sum(t == s for t, s in zip(truth, said, strict=True)) / len(pairs)
            floor = max(truth.count(name) for name in set(truth)) / len(pairs)
            found[axis] = (len(pairs), right, macro_f1(truth, said), floor)
    return found


@dataclass(frozen=True, slots=True)
class Localisation:
    """How often the step at which the agent went wrong is named, over unsafe runs in which the guard named any."""

    runs: int
    first: float
    """It is the first step named."""
    among: float
    """It is among the steps named."""
    last: float
    """Floor: it is the agent's last step."""
    chance: float
    """Floor: the first step named would be one of the agent's, drawn at random."""


def localisation(judged: Sequence[Judged]) -> Localisation | None:
    """Over the runs whose step is labelled; None without any."""
    known = [j for j in judged if j.unsafe and j.named and j.failed in j.acted]
    if not known:
        return None
    hits = [(j.failed == j.named[0], j.failed in j.named, j.failed == j.acted[-1], 1 / len(j.acted)) for j in known]
    return Localisation(len(known), *np.mean(np.array(hits, dtype=np.float64), axis=0).tolist())


def latency(judged: Sequence[Judged]) -> list[tuple[str, int, float, float]]:
    """Seconds a verdict by number of steps: (bin, runs, median, 95th percentile)."""
    rows: list[tuple[str, int, float, float]] = []
    for low, high in ((0, 5), (5, 10), (10, 20), (20, 50), (50, 10**9)):
        seconds = [j.seconds for j in judged if low <= j.steps < high]
        if seconds:
            name = f"{low}-{high - 1} steps" if high < 10**9 else f"{low} steps and more"
            rows.append((name, len(seconds), float(np.median(seconds)), float(np.percentile(seconds, 95))))
    return rows


def _judge(guard: Guard, item: Labelled, content: str) -> Judged:
    started = time.perf_counter()
    verdict = guard.judge(item.example.trajectory)
    seconds = time.perf_counter() - started
    alarm, risk, said, reason = _answer(verdict)
    return Judged(
        guard=guard.name,
        source=item.source,
        key=item.key,
        group=item.group,
        content=content,
        unsafe=item.unsafe,
        alarm=alarm,
        risk=risk,
        seconds=seconds,
        steps=len(item.example.trajectory.steps),
        gold=_axes(item.gold.diagnosis),
        said=_axes(said),
        reason=reason,
        failed=item.gold.failed,
        named=tuple(e.step for e in verdict.evidence) if isinstance(verdict, Unsafe) else (),
        acted=tuple(at for at, step in enumerate(item.example.trajectory.steps) if step.role is Role.AGENT),
    )


def _answer(verdict: Verdict) -> tuple[bool | None, float, Diagnosis, str]:
    match verdict:
        case Safe(risk):
            return False, risk, Diagnosis(), ""
        case Unsafe(risk, _, diagnosis):
            return True, risk, diagnosis, ""
        case Unreadable(reason):
            return None, 0.5, Diagnosis(), reason


def _axes(diagnosis: Diagnosis) -> tuple[str | None, str | None, str | None]:
    return (diagnosis.risk_source, diagnosis.failure_mode, diagnosis.harm)


def _judged(row: dict[str, object]) -> Judged:
    from pydantic import TypeAdapter

    return TypeAdapter(Judged).validate_python(row)
