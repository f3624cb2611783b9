"""Reinforcement learning of an agent in the worlds: groups of episodes, TRL's trainer, the published reward.

Each step plays triplets of tasks several times: a clean one, one that meets a risk, one whose request is the risk. An
episode is as good as it is better than the others of its task (GRPO, or with the ratio of a whole episode GSPO). See
``gelert.forge.agent_folder`` for what comes of it. The same line goes on where it was stopped.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gelert.backends.local import LocalModel
from gelert.forge.agent_folder import LOG, keep, versions, weights
from gelert.forge.agent_rl_recipe import Recipe, arguments
from gelert.forge.agent_tasks import told, triplets
from gelert.forge.agent_train import require
from gelert.forge.agent_widen import widened
from gelert.forge.checkpoints import CHECKPOINTS, begin, last_whole
from gelert.lm import registry
from gelert.worlds.catalogue import catalogue
from gelert.worlds.tasks import Task, tasks
from gelert.worlds.tasks import begin as started

if TYPE_CHECKING:
    from trl.trainer.grpo_trainer import GRPOTrainer

LOG_KIND = "agent-rl-step", 1
LOGGED = (
    *("step", "loss", "reward", "reward_std", "kl", "grad_norm", "entropy", "step_time", "malformed", "turns"),
    *("frac_reward_zero_std", "completions/mean_length"),
    *("clean/", "injected/", "hazard/", "malicious/"),
)
"""With what the names of the trainer's figures begin that are kept; all its figures are in the checkpoints."""

LAST = 10
"""Steps whose mean is told at both ends."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the learning has come to."""

    tasks: int
    """That differ."""
    steps: int
    first_reward: float
    last_reward: float
    """Mean over the first and over the last steps."""
    wrote: tuple[str, ...]
    """Folders of the agent."""


def train(recipe: Recipe, out: Path, *, tell: Callable[[int], None] = lambda _step: None) -> Report:
    """Let a model learn; goes on from the last whole checkpoint in ``out`` if there is one.

    Args:
        recipe: of the learning.
        out: folder to make or go on with.
        tell: is told the number of each step that is done.

    Raises:
        MissingError: TRL or the model is not here.
        InputError: the recipe does not do, or ``out`` was begun with another one.
    """
    require()
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the trainer's warning that its rollout_func may change
    from gelert.lm.quiet import quiet

    drawn = played(recipe)
    noted = _noted(recipe)
    begin(out, noted)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own use of names that transformers retires
        trainer = _trainer(drawn, recipe, out, tell)
        trainer.train(resume_from_checkpoint=last_whole(out / CHECKPOINTS))
        wrote = keep(trainer, recipe.adapter, recipe.model, out, noted)
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    first, last = rewards[:LAST], rewards[-LAST:]
    return Report(
        len({one.name for one in drawn}),
        trainer.state.global_step,
        sum(first) / len(first),
        sum(last) / len(last),
        wrote,
    )


def played(recipe: Recipe) -> list[Task]:
    """The tasks of all steps, in their order.

    Args:
        recipe: of the learning.
    """
    families = widened(catalogue(recipe.episodes.worlds), recipe.episodes.widened, recipe.seed)
    every = told([one for family in families.values() for one in tasks(family)], recipe.form)
    batches = -(-recipe.steps // recipe.passes)
    return [one for three in triplets(every, batches * recipe.episodes.triplets, seed=recipe.seed) for one in three]


def _noted(recipe: Recipe) -> dict[str, object]:
    """What the result is made of; more steps may be asked for than at first."""
    return {
        "form": recipe.form.value,
        "recipe": recipe.noted(),
        "weights_sha256": weights(registry.resolve(recipe.model)),
        "versions": versions(),
    }


def _trainer(drawn: Sequence[Task], recipe: Recipe, out: Path, tell: Callable[[int], None]) -> "GRPOTrainer":
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback, set_seed
    from trl.trainer.grpo_trainer import GRPOTrainer

    from gelert.forge.agent_rl_rollouts import Rollouts, total
    from gelert.forge.agent_train_log import StepLog

    folder = registry.resolve(recipe.model)
    tokens = LocalModel.load(recipe.model, layers=1).model
    beginnings = {one.name: started(one) for one in drawn}
    set_seed(recipe.seed)  # the adapter is drawn before the trainer sets it
    trainer = GRPOTrainer(
        model=str(folder),
        processing_class=AutoTokenizer.from_pretrained(folder),
        args=arguments(recipe, out / CHECKPOINTS, int(os.environ.get("WORLD_SIZE", "1"))),
        train_dataset=Dataset.from_list([{"prompt": one.name} for one in drawn]),
        reward_funcs=cast("Any", [total]),
        rollout_func=cast("Any", Rollouts(tokens, beginnings, recipe)),
        peft_config=recipe.adapter and recipe.adapter.config(folder),
        callbacks=[StepLog(out / LOG, LOG_KIND, LOGGED, tell)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
