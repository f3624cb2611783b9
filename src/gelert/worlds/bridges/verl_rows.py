"""Rows of tasks for verl's data set; ``gelert.forge.agent_verl`` chooses tasks and writes them.

A row's prompt is what the model is told, tools and all, so that verl drops a prompt that is too long before it trains.
The loop tells it again by the task's name.
"""

from collections.abc import Sequence
from typing import Any

from gelert.worlds.episode import Episode
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
