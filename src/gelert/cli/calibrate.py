"""``gelert calibrate``: fit a guard to a runtime's own logs, labelled or not."""

import sys
from pathlib import Path

import click

from gelert.core.errors import InputError
from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Role
from gelert.guard.calibrate import smallest_rate
from gelert.guard.card import default_card, save
from gelert.guard.features import read_whole
from gelert.guard.guard import HeadGuard
from gelert.guard.recalibrate import Logs, recalibrate

EPILOG = """\b
Examples:
  gelert calibrate ~/.codex/sessions --alarm-budget 0.02 --out my-guard/
  gelert calibrate labelled.jsonl --out my-guard/ --alarm-budget 0.05
  gelert judge --guard my-guard/ run.jsonl
"""


@click.command(epilog=EPILOG)
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--guard", "guard_folder", type=click.Path(exists=True, path_type=Path), help="The guard to start from.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the new card.")
@click.option("--alarm-budget", type=float, help="Largest share of ordinary runs that may raise an alarm.")
@click.option("--keep-normalisation", is_flag=True, help="Do not normalise features to these logs.")
def command(
    logs: tuple[Path, ...], guard_folder: Path | None, out: Path, alarm_budget: float | None, keep_normalisation: bool
) -> None:
    """Write a guard that is normalised to LOGS and whose threshold keeps an alarm budget on them.

    Logs without labels should be ordinary traffic. Labelled logs also set the temperature.
    """
    from gelert.guard.formats import read

    found = [record for path in logs for record in read(path)]
    examples = [f for f in found if isinstance(f, Example) and any(s.role is Role.AGENT for s in f.trajectory.steps)]
    for refusal in (f for f in found if isinstance(f, Refusal)):
        print(f"refused  {refusal}", file=sys.stderr)
    if not examples:
        raise InputError("expected at least one readable log in which an agent acts, got none")
    guard = HeadGuard.load(guard_folder or default_card())
    labels = [e.gold.unsafe if e.gold else None for e in examples]
    labelled = None not in labels
    windows = [read_whole(guard.model, e.trajectory, guard.readouts, guard.card.window_plan) for e in examples]
    source = ", ".join(str(p) for p in logs)
    used = Logs(windows, [bool(x) for x in labels] if labelled else None, source)
    card, head = recalibrate(guard.card, guard.head, used, alarm_budget=alarm_budget, normalise=not keep_normalisation)
    save(out, card, head)
    c = card.calibration
    certified = (
        "nothing is certified" if c.certified_rate is None else f"certified false-alarm rate {c.certified_rate:.3f}"
    )
    kind = "labelled" if labelled else "not labelled"
    print(
        f"{len(examples)} runs ({kind}); threshold {c.threshold:.3f}; {certified};"
        f" the smallest rate so many runs can certify is {smallest_rate(len(examples)):.3f}; wrote {out}"
    )
