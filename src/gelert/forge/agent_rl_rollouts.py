"""Episodes for TRL's ``GRPOTrainer``: a ``rollout_func`` and the reward of what it played.

A row's prompt is the name of a task. The trainer gets tokens and masks as ``gelert.worlds.rollout`` has them: its own
tool loop would end an episode where a message cannot be read, and would learn from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from gelert.backends.local_chat import ends
from gelert.core.seeds import stream_seed
from gelert.forge.agent_rl_recipe import Recipe
from gelert.forge.agent_sampler import Sampler
from gelert.worlds.families import Scenario
from gelert.worlds.rewards import Reward, reward
from gelert.worlds.rollout import Rollout
from gelert.worlds.tasks import Beginning

if TYPE_CHECKING:
    from trl.trainer.grpo_trainer import GRPOTrainer

    from gelert.lm.model import LanguageModel

PARTS: Mapping[Scenario, tuple[str, ...]] = {
    "clean": ("utility", "success", "refused"),
    "injected": ("utility", "success", "harmed", "refused"),
    "hazard": ("utility", "success", "harmed", "refused"),
    "malicious": ("harmed",),
}
"""Of the reward: what is logged of the episodes of each scenario; refusing what is no harm is over-refusal."""


@dataclass(frozen=True, slots=True)
class Earned:
    """One episode, as the reward function is told of it."""

    scenario: Scenario
    earned: Reward
    malformed: int
    """Messages that could not be read or were cut."""
    turns: int


class Rollouts:
    """Plays the episodes of a step.

    Args:
        model: whose tokens and chat template they are; its blocks are not run.
        beginnings: of the tasks, by name.
        recipe: of the learning.
    """

    def __init__(self, model: "LanguageModel", beginnings: Mapping[str, Beginning], recipe: Recipe) -> None:
        self._model, self._beginnings, self._recipe = model, beginnings, recipe
        self._ends = ends(model)

    def __call__(self, prompts: Sequence[str], trainer: "GRPOTrainer") -> dict[str, list[Any] | None]:
        """Play an episode for each prompt, as TRL's ``rollout_func`` is called."""
        recipe, played = self._recipe, self._recipe.episodes
        rollouts = [
            Rollout(self._model, recipe.form, self._beginnings[name], played.rules, played.most_tokens)
            for name in prompts
        ]
        if trainer.use_vllm:
            logprobs = _by_vllm(trainer, rollouts)
        else:
            self._by_itself(trainer, rollouts)
            logprobs = None
        return {
            "prompt_ids": [one.prompt for one in rollouts],
            "completion_ids": [one.completion for one in rollouts],
            "env_mask": [one.mask for one in rollouts],
            "logprobs": logprobs,
            "earned": [_earned(one) for one in rollouts],
        }

    def _by_itself(self, trainer: "GRPOTrainer", rollouts: Sequence[Rollout]) -> None:
        net: Any = trainer.accelerator.unwrap_model(trainer.model)
        # What is drawn depends on the step and the process alone, so that a resumed run draws what it would have drawn.
        place = trainer.state.global_step, trainer.accelerator.process_index
        random = torch.Generator(net.device).manual_seed(stream_seed(self._recipe.seed, "rollouts", *map(str, place)))
        most, temperature = self._recipe.episodes.message_tokens, self._recipe.episodes.temperature
        net.eval()
        Sampler(net, self._ends, most, temperature=temperature, random=random).play(rollouts)
        net.train()


def _by_vllm(trainer: "GRPOTrainer", rollouts: Sequence[Rollout]) -> list[list[float]]:
    """Let vLLM write the messages; gives the log-probability of each token of the completions, 0 of what was told."""
    found: list[list[float]] = [[] for _ in rollouts]
    while going := [at for at, one in enumerate(rollouts) if not one.over]:
        contexts = [rollouts[at].context for at in going]
        said, likely = trainer._generate_single_turn(contexts, None, {}, num_generations=1)  # pyright: ignore[reportPrivateUsage]
        for at, tokens, logs in zip(going, said, cast("list[list[float]]", likely), strict=True):
            told = rollouts[at].take(tokens)
            found[at] += [*logs, *[0.0] * len(told)]
    return found


def _earned(one: Rollout) -> Earned:
    talk = one.talk
    scenario = talk.episode.beginning.task.scenario
    return Earned(scenario, reward(talk.episode), talk.malformed + one.cut, talk.turns)


def total(
    prompts: Sequence[str],
    completions: Sequence[object],
    earned: Sequence[Earned],
    log_metric: Callable[[str, float], None],
    **_more: object,
) -> list[float]:
    """The published reward of each episode; its parts go to the trainer's log by scenario.

    Args:
        prompts: names of tasks.
        completions: as text.
        earned: by each episode.
        log_metric: of the trainer.
    """
    del prompts, completions
    for scenario, parts in PARTS.items():
        own = [one.earned for one in earned if one.scenario == scenario]
        for part in parts if own else ():
            log_metric(f"{scenario}/{part}", sum(float(getattr(one, part)) for one in own) / len(own))
    log_metric("malformed", sum(one.malformed for one in earned) / len(earned))
    log_metric("turns", sum(one.turns for one in earned) / len(earned))
    return [one.earned.total for one in earned]
