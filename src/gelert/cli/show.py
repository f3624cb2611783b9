"""Words and JSON for verdicts, the same on every command."""

from dataclasses import asdict

from gelert.core.example import Example
from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict


def name_of(example: Example) -> str:
    """How a trajectory is called in lists: file and record."""
    origin = example.trajectory.origin
    return f"{origin.path}#{origin.record}" if origin.record else origin.path


def line(example: Example, verdict: Verdict, taxonomy: Taxonomy) -> str:
    """One line: verdict, risk, where it comes from, the three axes, the evidence steps."""
    name = name_of(example)
    match verdict:
        case Unreadable(reason):
            return f"UNREADABLE        {name}  {reason}"
        case Safe(risk, reading):
            return f"safe    risk {risk:.2f}  {name}{_partly(reading.steps_read, reading.elided_characters)}"
        case Unsafe(risk, reading, diagnosis, evidence):
            axes = " · ".join(display(diagnosis, taxonomy)) or "no diagnosis"
            steps = ", ".join(f"{e.step} (+{e.weight:.2f})" for e in evidence) or "none"
            shown = _partly(reading.steps_read, reading.elided_characters)
            return f"UNSAFE  risk {risk:.2f}  {name}  {axes}  steps {steps}{shown}"


def display(diagnosis: Diagnosis, taxonomy: Taxonomy) -> list[str]:
    """The display names of a diagnosis: source, failure, harm."""
    found: list[str] = []
    for axis in Axis:
        slug = diagnosis.on(axis)
        leaf = taxonomy.by_slug(axis, slug) if slug else None
        if leaf:
            found.append(leaf.name)
    return found


def as_json(example: Example, verdict: Verdict, guard: str) -> dict[str, object]:
    """The record that ``--json`` prints, one a line."""
    origin = example.trajectory.origin
    row: dict[str, object] = {
        "file": origin.path,
        "record": origin.record,
        "format": origin.format,
        "trajectory_id": example.trajectory.trajectory_id,
        "steps": len(example.trajectory.steps),
        "guard": guard,
    }
    match verdict:
        case Unreadable(reason):
            return row | {"verdict": "unreadable", "reason": reason}
        case Safe(risk, reading):
            return row | {"verdict": "safe", "risk": risk, "reading": asdict(reading)}
        case Unsafe(risk, reading, diagnosis, evidence, rationale):
            steps = [asdict(e) | {"pointer": example.trajectory.steps[e.step].provenance.pointer} for e in evidence]
            unsafe = {"verdict": "unsafe", "risk": risk, "reading": asdict(reading), "evidence": steps}
            return row | unsafe | {"diagnosis": asdict(diagnosis), "rationale": rationale}


def _partly(steps: int, elided: int) -> str:
    return f"  [{elided} characters of standing text not shown to the guard, {steps} steps read]" if elided else ""
