"""The command that writes tasks for verl, to learn from or to be measured on.

::

    python -m gelert.forge.agent_verl --triplets 4000 --out train.parquet
    python -m gelert.forge.agent_verl --held worlds --count 50 --out held.parquet

What is held out is what ``gelert train agent`` and ``gelert eval-agent`` hold out. Triplets stand together, so that
batches that are not shuffled have them together, as published (arXiv:2605.29801).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gelert.core.errors import GelertError, missing_extra
from gelert.forge.agent_tasks import Held, chosen, told, triplets
from gelert.worlds.bridges.verl_rows import rows
from gelert.worlds.catalogue import catalogue
from gelert.worlds.tasks import Task, tasks
from gelert.worlds.toolcalls import Form


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a file of rows; gives the exit code."""
    asked = _parser().parse_args(arguments)
    # verl's workers may run in another folder.
    worlds = [str(Path(one).resolve()) if one.endswith(".json") else one for one in asked.worlds]
    try:
        form = Form(asked.form)
        every = told([one for family in catalogue(worlds).values() for one in tasks(family)], form)
        if asked.held:
            found = chosen(every, asked.count, held=Held(asked.held), seed=asked.seed)
        else:
            found = [one for three in triplets(every, asked.triplets, seed=asked.seed) for one in three]
        _write(found, worlds, form, asked.out)
    except GelertError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    sys.stdout.write(f"{len(found)} tasks in {asked.out}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gelert.forge.agent_verl", description="Tasks for verl.")
    parser.add_argument("--worlds", nargs="*", default=[], help="names or files; all that come with Gelert if left out")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--triplets", type=int, help="to learn from: a clean task, a risky and a malicious one each")
    which.add_argument("--held", choices=[*map(str, Held)], help="tasks with something new in them, to be measured on")
    parser.add_argument("--count", type=int, default=50, help="of each scenario, with --held")
    parser.add_argument("--form", choices=[*map(str, Form)], default="hermes", help="of the model's tool calls")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--out", type=Path, required=True, help="a file in the Parquet format")
    return parser


def _write(found: Sequence[Task], worlds: Sequence[str], form: Form, path: Path) -> None:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise missing_extra("gelert.forge.agent_verl", "verl") from None
    parquet.write_table(arrow.Table.from_pylist(rows(found, worlds, form)), path)


if __name__ == "__main__":
    sys.exit(main())
