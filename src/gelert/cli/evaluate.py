"""``gelert eval``: a guard's figures on labelled runs, each with its interval and beside its floors."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from gelert.cli.guards import at_once_option, guard_option, open_guard
from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis
from gelert.evals.benches import Labelled, load_labelled
from gelert.evals.metrics import Interval
from gelert.evals.run import Judged, axis_figures, evaluate, figures, latency, localisation
from gelert.guard.guard import Guard

EPILOG = """\b
Examples:
  gelert eval --data logs/labelled.jsonl
  gelert eval --data a.json --data b.jsonl --out run.jsonl --json
  gelert eval --guard my-guard/ --data a.json --out run.jsonl   # stopped? the same line goes on
"""


@click.command("eval", epilog=EPILOG)
@guard_option
@at_once_option
@click.option(
    "--data",
    "data",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="A labelled file or folder; may be given more than once. Each folder is a source.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Keep each answer here and resume from it."
)
@click.option("--draws", default=1000, show_default=True, help="Bootstrap draws.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    guard_name: str | None,
    at_once: int | None,
    data: tuple[Path, ...],
    out: Path | None,
    draws: int,
    seed: int,
    as_json: bool,
) -> None:
    """Judge labelled runs and print the guard's figures, per source and in all.

    A guard that was fitted to the same runs reaches figures that say nothing; see `gelert train guard` for grouped and
    leave-one-source-out figures.
    """
    loaded = load_labelled(data)
    for refusal in loaded.refused:
        print(f"refused  {refusal}", file=sys.stderr)
    if not loaded.labelled:
        raise InputError("expected at least one run labelled safe or unsafe, got none; see docs on formats for labels")
    judged = _judge(open_guard(guard_name, at_once), loaded.labelled, out)
    report = _report(judged, draws, seed)
    print(json.dumps(report, indent=2) if as_json else _table(report))
    if loaded.refused or any(j.alarm is None for j in judged):
        sys.exit(2)


def _judge(guard: Guard, examples: Sequence[Labelled], out: Path | None) -> list[Judged]:
    from rich.console import Console
    from rich.progress import track

    found = evaluate(guard, examples, out)
    console = Console(stderr=True)
    shown = track(found, total=len(examples), description="judging", console=console, disable=not console.is_terminal)
    return list(shown)


def _report(judged: Sequence[Judged], draws: int, seed: int) -> dict[str, object]:
    sources = sorted({j.source for j in judged})
    parts = {name: [j for j in judged if j.source == name] for name in sources}
    if len(sources) > 1:
        parts["all"] = list(judged)
    return {
        "guard": judged[0].guard,
        "sources": {name: _part(rows, draws, seed) for name, rows in parts.items()},
        "latency": [dict(zip(("length", "runs", "median_s", "p95_s"), row, strict=True)) for row in latency(judged)],
    }


def _part(judged: Sequence[Judged], draws: int, seed: int) -> dict[str, object]:
    share = sum(j.unsafe for j in judged) / len(judged)
    axes, steps = axis_figures(judged), localisation(judged)
    return {
        "runs": len(judged),
        "figures": {name: _triple(i) for name, i in figures(judged, draws=draws, seed=seed).items()},
        "floor_always_unsafe_accuracy": share,
        "axes": {
            axis.value: dict(zip(("runs", "accuracy", "macro_f1", "commonest_label_accuracy"), axes[axis], strict=True))
            for axis in Axis
            if axis in axes
        },
        "step": asdict(steps) if steps else None,
    }


def _triple(i: Interval) -> list[float]:
    return [round(i.value, 4), round(i.low, 4), round(i.high, 4)]


def _table(report: dict[str, object]) -> str:
    lines = [f"guard {report['guard']}; value [95 % interval, groups drawn together]"]
    sources = report["sources"]
    assert isinstance(sources, dict)
    for name, part in sources.items():
        lines.append(
            f"\n{name}: {part['runs']} runs; always-unsafe accuracy {part['floor_always_unsafe_accuracy']:.3f}"
        )
        lines += [f"  {k:14} {v[0]:.3f} [{v[1]:.3f}, {v[2]:.3f}]" for k, v in part["figures"].items()]
        lines += [
            f"  {k:18} accuracy {v['accuracy']:.3f}, macro-F1 {v['macro_f1']:.3f}, commonest label"
            f" {v['commonest_label_accuracy']:.3f}, {v['runs']} runs"
            for k, v in part["axes"].items()
        ]
        if step := part["step"]:
            lines.append(
                f"  step that failed   named first {step['first']:.3f}, named {step['among']:.3f}, always the last"
                f" {step['last']:.3f}, chance {step['chance']:.3f}, {step['runs']} runs"
            )
    rows = report["latency"]
    assert isinstance(rows, list)
    lines += [
        "\nseconds a verdict",
        *(f"  {r['length']:20} median {r['median_s']:.2f}, p95 {r['p95_s']:.2f}" for r in rows),
    ]
    return "\n".join(lines)
