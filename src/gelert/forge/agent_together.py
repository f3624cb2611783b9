"""A model of this machine tried on many tasks at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gelert.backends.local import LocalModel
from gelert.backends.local_chat import ADAPTER, base, ends
from gelert.forge.agent_eval import Played, begun, keep, told
from gelert.worlds.model_agent import Rules
from gelert.worlds.rollout import Rollout
from gelert.worlds.tasks import Task, begin
from gelert.worlds.toolcalls import Form

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluate(
    model: str,
    form: Form,
    tasks: Sequence[Task],
    name: str,
    out: Path,
    *,
    at_once: int = 64,
    rules: Rules | None = None,
) -> Iterator[Played]:
    """Play the tasks, some at a time; each is kept in ``out`` when those are over and not played again.

    Args:
        model: a registered name, a folder, a hub id, or the folder of an adapter.
        form: of its tool calls.
        tasks: to play.
        name: of the agent in the records.
        out: file of the records.
        at_once: tasks in a batch.
        rules: when to stop; the likeliest tokens are taken.

    Raises:
        InputError: ``out`` holds episodes of another agent.
        ModelError: the model or the adapter cannot be run.
    """
    from gelert.forge.agent_sampler import Sampler

    rules = rules or Rules()
    done = begun(name, out)
    left = [one for one in tasks if one.name not in done]
    yield from (done[one.name] for one in tasks if one.name in done)
    folder = Path(model)
    adapted = (folder / ADAPTER).is_file()
    own = LocalModel.load(base(folder) if adapted else model).model
    net = own.net
    if adapted:
        from peft import PeftModel

        net = cast("PreTrainedModel", PeftModel.from_pretrained(net, folder))
    most = own.context - rules.tokens
    for start in range(0, len(left), at_once):
        rollouts = [Rollout(own, form, begin(one), rules, most) for one in left[start : start + at_once]]
        Sampler(net, ends(own), rules.tokens).play(rollouts)
        for one in rollouts:
            found = told(one.talk.episode, name)
            keep(found, out)
            yield found
