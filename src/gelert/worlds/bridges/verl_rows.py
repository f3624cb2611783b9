"""Rows of tasks for verl's data set, and the command that writes them.

::

    python -m gelert.worlds.bridges.verl_rows mail shop --form hermes --out tasks.parquet

A row's prompt is what the model is told, tools and all, so that verl drops a prompt that is too long before it trains.
The loop tells it again by the task's name.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from gelert.core.errors import GelertError, missing_extra
from gelert.worlds.bridges.carried import chosen
from gelert.worlds.episode import Episode
from gelert.worlds.families import Scenario
from gelert.worlds.model_agent import Conversation
from gelert.worlds.tasks import Task, begin
from gelert.worlds.toolcalls import Form

LOOP = "gelert_worlds"
"""The name of the agent loop."""


def rows(tasks: Sequence[Task], worlds: Sequence[str], form: Form) -> list[dict[str, Any]]:
    """Tasks as verl reads them; its validation tells their rewards apart by ``data_source``, here the scenario.

    Args:
        tasks: of these worlds.
        worlds: names or files, by which each worker finds the tasks.
        form: of the model's tool calls.
    """
    return [
        {
            "data_source": f"gelert/{one.scenario}",
            "agent_name": LOOP,
            "prompt": [
                {"role": said.role, "content": said.content}
                for said in Conversation(form, Episode(begin(one))).messages
            ],
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": at, "task": one.name, "worlds": list(worlds), "form": str(form)},
        }
        for at, one in enumerate(tasks)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a file of rows; gives the exit code."""
    asked = _parser().parse_args(arguments)
    # The workers may run in another folder.
    worlds = [str(Path(one).resolve()) if one.endswith(".json") else one for one in asked.worlds]
    try:
        found = rows(chosen(worlds, asked.scenario, asked.count, asked.seed), worlds, Form(asked.form))
        _write(found, asked.out)
    except GelertError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    sys.stdout.write(f"{len(found)} tasks in {asked.out}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gelert.worlds.bridges.verl_rows", description="Tasks for verl.")
    parser.add_argument("worlds", nargs="*", help="names or files; all that come with Gelert where there are none")
    parser.add_argument("--out", type=Path, required=True, help="a file in the Parquet format")
    parser.add_argument("--form", choices=[*map(str, Form)], default="hermes", help="of the model's tool calls")
    parser.add_argument("--scenario", choices=get_args(Scenario), help="any, if it is left out")
    parser.add_argument("--count", type=int, help="how many to draw; all, if it is left out")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    return parser


def _write(found: Sequence[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise missing_extra("gelert.worlds.bridges.verl_rows", "verl") from None
    parquet.write_table(arrow.Table.from_pylist(list(found)), path)


if __name__ == "__main__":
    sys.exit(main())
