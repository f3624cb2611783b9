"""The recipe of an agent's reinforcement learning: the model, the episodes it plays, and how it learns from them.

The reward is the worlds' (``gelert.worlds.rewards``). Defaults are what AgentDoG 1.5 publishes (arXiv:2605.29801,
application 1), where it does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gelert.core.errors import InputError
from gelert.forge.adapter import Adapter
from gelert.forge.grpo_options import options
from gelert.forge.recipe_file import Strict, document, fields
from gelert.worlds.model_agent import Rules
from gelert.worlds.toolcalls import Form

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

TRIPLET = 3
"""A clean task, one that meets a risk, and one whose request is the risk."""


class Episodes(Strict):
    """What is played for each step."""

    triplets: Count = 11
    """Of tasks; published are 32 tasks in all."""
    group: Annotated[int, Field(ge=2)] = 8
    """Episodes of each task."""
    turns: Count = 15
    message_tokens: Count = 1536
    """Of one message; a longer one is cut."""
    most_tokens: Count = 8192
    """Of an episode: after them there is no other message."""
    temperature: Annotated[float, Field(gt=0)] = 0.5
    worlds: tuple[str, ...] = ()
    """All where none is named."""
    widened: Annotated[int, Field(ge=0)] = 0
    """More parameters of each family than it has, as the demonstrations of a small model have them."""

    @property
    def tasks(self) -> int:
        """Of a step."""
        return TRIPLET * self.triplets

    @property
    def rules(self) -> Rules:
        """When to stop a model."""
        return Rules(self.turns, tokens=self.message_tokens, temperature=self.temperature)


class Engine(Strict):
    """How the hardware is used: nothing here changes what is learnt, up to rounding."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in memory and of the arithmetic."""
    at_once: Count = 8
    """Episodes that a device is trained on at once; those of a step are spread over devices, then over time."""
    save_memory: bool = False
    """Whether to compute activations again instead of keeping them."""
    vllm: Literal["none", "colocate", "server"] = "none"
    """What writes the messages: the model itself, vLLM on the training devices, or a server (``trl vllm-serve``)."""
    vllm_address: str = "http://127.0.0.1:8000"
    """Of the server."""
    vllm_memory: Share = 0.3
    """Share of a device's memory that vLLM gets on the training devices."""


class Recipe(Strict):
    """An agent that learns by reward."""

    model: str
    """A registered name, a folder or a hub id, with a chat template: one that calls tools already."""
    form: Form = Form.HERMES
    """Of its tool calls."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the tasks, of the adapter and of the draws."""
    steps: Count = 400
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    """Constant."""
    level: Literal["sequence", "token"] = "sequence"
    """Of the importance ratio: of a whole episode (GSPO, as published) or of each token (GRPO)."""
    passes: Count = 1
    """Steps that the same episodes are used for; the ratio acts from the second on."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 3e-4
    clip_high: Annotated[float, Field(gt=0)] = 4e-4
    """The clips of GSPO (arXiv:2507.18071); AgentDoG's are not published."""
    kl: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence from the model that was begun with. Not published."""
    save_every: Count = 50
    """Steps between checkpoints; a multiple of ``passes``."""
    episodes: Episodes
    adapter: Adapter | None = None
    """None trains all weights."""
    engine: Engine = Engine()

    @classmethod
    def load(cls, path: Path, model: str | None = None) -> "Recipe":
        """The recipe in a TOML file.

        Args:
            path: of the file.
            model: to begin with, instead of the recipe's.

        Raises:
            InputError: it cannot be read, or has unknown or wrong fields, all of which are named.
        """
        return fields(cls, document(path) | ({"model": model} if model else {}), str(path))

    def noted(self) -> dict[str, object]:
        """What the result depends on, without where it was done and for how long."""
        return self.model_dump(mode="json", exclude={"steps", "model"})


def arguments(recipe: Recipe, folder: Path, devices: int) -> "GRPOConfig":
    """The trainer's own options that make the recipe.

    Args:
        recipe: of the learning.
        folder: of the checkpoints.
        devices: on which it runs, a process each.

    Raises:
        InputError: the episodes of a step cannot be spread evenly, or a checkpoint would fall between its passes.
    """
    from trl.trainer.grpo_config import GRPOConfig

    engine, played = recipe.engine, recipe.episodes
    every, at_once = played.tasks * played.group, engine.at_once * devices
    if every % at_once:
        raise InputError(
            f"expected 3 x episodes.triplets x episodes.group ({every}) to be a multiple of engine.at_once x devices"
            f" ({at_once}); change one of them"
        )
    if recipe.save_every % recipe.passes:
        raise InputError(
            f"expected save_every to be a multiple of passes ({recipe.passes}), got {recipe.save_every}; the episodes"
            " of a step are not kept in checkpoints"
        )
    return GRPOConfig(
        seed=recipe.seed,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        adam_beta2=0.95,
        weight_decay=0.0,
        num_generations=played.group,
        shuffle_dataset=False,  # a triplet stays in one step
        importance_sampling_level=recipe.level,
        epsilon=recipe.clip_low,
        epsilon_high=recipe.clip_high,
        beta=recipe.kl,
        num_iterations=recipe.passes,
        temperature=played.temperature,
        max_completion_length=played.message_tokens,
        per_device_train_batch_size=engine.at_once,
        gradient_accumulation_steps=every // at_once,
        **options(engine, folder, played.most_tokens + played.message_tokens, recipe.save_every),
    )
