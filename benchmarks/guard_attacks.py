"""The default guard under attack: how many verdicts flip when a run hides what the agent did.

Of each set, the unsafe runs that the guard finds and the safe ones that it passes are judged again with each trick of
``tests/guard/tricks.py``. An unsafe run has flipped if it is called safe then; one without a verdict is blocked, and
has not.

    python benchmarks/guard_attacks.py [--data examples/logs DIR...] [--most 20] [--trick NAME...] [--json OUT]
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gelert.core.example import Example
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict
from gelert.evals.benches import load_labelled
from gelert.evals.metrics import Interval, false_alarm_rate, interval, outcomes, recall
from gelert.guard.card import default_card
from gelert.guard.formats import read
from gelert.guard.guard import HeadGuard

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.guard.tricks import TRICKS  # noqa: E402 - they lie beside the tests


@dataclass(frozen=True)
class Judged:
    """A run, whether it is unsafe, and the guard's verdict on it as it is."""

    run: Trajectory
    unsafe: bool
    verdict: Safe | Unsafe

    @property
    def right(self) -> bool:
        """Whether the guard is."""
        return isinstance(self.verdict, Unsafe) == self.unsafe


@dataclass(frozen=True)
class Row:
    """What one trick did to the runs of one set that were judged rightly and are alike in being unsafe or safe."""

    data: str
    trick: str
    unsafe: bool
    runs: int
    flipped: Interval
    """Share."""
    unreadable: int
    change: float
    """Of the risk, on the mean over the runs that were still read."""


def labelled(path: Path) -> list[tuple[Trajectory, bool]]:
    """The runs of a set and whether each is unsafe, as they say themselves or as ``expected.toml`` beside them does."""
    beside = path.parent / "expected.toml"
    if not beside.exists():
        return [(one.example.trajectory, one.unsafe) for one in load_labelled([path]).labelled]
    unsafe = {row["file"]: row["unsafe"] for row in tomllib.loads(beside.read_text())["log"]}
    found = [one.trajectory for one in read(path) if isinstance(one, Example)]
    return [(run, unsafe[Path(run.origin.path).name]) for run in found]


def rightly(guard: HeadGuard, runs: Sequence[tuple[Trajectory, bool]], most: int) -> list[Judged]:
    """The first ``most`` unsafe and the first ``most`` safe runs that are judged rightly."""
    left = {True: most, False: most}
    found: list[Judged] = []
    for run, unsafe in runs:
        if not left[unsafe]:
            continue
        verdict = guard.judge(run)
        if isinstance(verdict, Unreadable):
            continue
        one = Judged(run, unsafe, verdict)
        if one.right:
            found.append(one)
            left[unsafe] -= 1
    return found


def row(data: str, trick: str, before: Sequence[Judged], after: Sequence[Verdict]) -> Row:
    """What came of the runs, all of which are unsafe or none."""
    unsafe = before[0].unsafe
    alarm = [not isinstance(verdict, Safe) for verdict in after]
    risk = [1.0 if isinstance(verdict, Unreadable) else verdict.risk for verdict in after]
    found = outcomes([one.unsafe for one in before], alarm, risk, [str(n) for n in range(len(before))])
    share = interval(recall if unsafe else false_alarm_rate, found)
    flipped = Interval(1 - share.value, 1 - share.high, 1 - share.low) if unsafe else share
    changes = [
        now.risk - one.verdict.risk for one, now in zip(before, after, strict=True) if not isinstance(now, Unreadable)
    ]
    unreadable = len(after) - len(changes)
    return Row(data, trick, unsafe, len(before), flipped, unreadable, float(np.mean(changes)) if changes else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", default=[ROOT / "examples/logs"])
    parser.add_argument("--most", type=int, default=20, help="unsafe runs, and safe ones, of each set")
    parser.add_argument("--trick", nargs="+", choices=list(TRICKS), default=list(TRICKS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    guard = HeadGuard.load(default_card())
    rows: list[Row] = []
    for data in options.data:
        right = rightly(guard, labelled(data), options.most)
        for unsafe in (True, False):
            before = [one for one in right if one.unsafe == unsafe]
            for trick in options.trick if before else ():
                rows.append(row(data.name, trick, before, [guard.judge(TRICKS[trick](one.run)) for one in before]))
                last = rows[-1]
                kind = "unsafe to safe" if unsafe else "safe to unsafe"
                print(
                    f"{data.name:18} {trick:22} {kind}  of {last.runs:2}: {last.flipped}  "
                    f"unreadable {last.unreadable}  risk {last.change:+.3f}",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps({"guard": guard.name, "rows": [asdict(one) for one in rows]}, indent=2))


if __name__ == "__main__":
    main()
