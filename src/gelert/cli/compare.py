"""``gelert compare``: two guards' answers on the same runs."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from gelert.evals.compare import compare
from gelert.evals.run import saved

EPILOG = """\b
Examples:
  gelert eval --data logs/ --out ours.jsonl && gelert eval --guard other/ --data logs/ --out theirs.jsonl
  gelert compare ours.jsonl theirs.jsonl
"""


@click.command(epilog=EPILOG)
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--draws", default=1000, show_default=True, help="Bootstrap draws.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(first: Path, second: Path, draws: int, seed: int, as_json: bool) -> None:
    """Compare two runs of `gelert eval --out`: FIRST minus SECOND, paired by trajectory."""
    found = compare(saved(first), saved(second), draws=draws, seed=seed)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    print(f"{found.pairs} runs judged by both; first minus second, 95 % paired bootstrap interval")
    for name, i in found.differences.items():
        sure = "" if i.low <= 0 <= i.high else "  *"
        print(f"  {name:14} {i.value:+.3f} [{i.low:+.3f}, {i.high:+.3f}]{sure}")
    print(f"right only in first {found.only_first_right}, only in second {found.only_second_right}")
    print(f"McNemar exact p = {found.p_value:.4f}")
