"""The recipe of a guard's reinforcement learning: its defaults are what AgentDoG 1.5 publishes, where it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gelert.core.errors import InputError
from gelert.forge.adapter import Adapter
from gelert.forge.grpo_options import options
from gelert.forge.guard_rl_reward import AXES
from gelert.forge.recipe_file import Strict, document, fields

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Weights(Strict):
    """What the normalised reward of each axis counts."""

    failure_mode: Share = 0.3
    real_world_harm: Share = 0.4
    risk_source: Share = 0.3


class Engine(Strict):
    """How the hardware is used: nothing here changes what is learnt, up to rounding."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in memory and of the arithmetic."""
    answers_at_once: Count = 8
    """Answers that a device is trained on at once; those of a step are spread over devices and then over time."""
    save_memory: bool = False
    """Whether to compute activations again instead of keeping them."""
    vllm: Literal["none", "colocate", "server"] = "none"
    """What writes the answers: the model itself, vLLM on the training devices, or a server (``trl vllm-serve``)."""
    vllm_address: str = "http://127.0.0.1:8000"
    """Of the server."""
    vllm_memory: Share = 0.3
    """Share of a device's memory that vLLM gets on the training devices."""


class Recipe(Strict):
    """What is learnt from what, and how (arXiv:2605.29801)."""

    seed: Annotated[int, Field(ge=0)] = 0
    steps: Count = 500
    """Not published."""
    questions: Count = 16
    """Runs asked about at once, over whose answers advantages are normalised. Not published."""
    group: Annotated[int, Field(ge=2)] = 8
    """Answers to each."""
    passes: Count = 1
    """Steps that the same answers are used for; the clip acts from the second on. Not published."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Constant."""
    kl: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the divergence from the model that was begun with."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[float, Field(gt=0)] = 0.28
    weights: Weights = Weights()
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the answers. Not published."""
    prompt_tokens: Count = 15_360
    """A longer run is shortened, visibly. With the answer it fills the context that the release is served with."""
    answer_tokens: Count = 1024
    """An answer that reaches them earns nothing."""
    reasoning_words: Annotated[int, Field(ge=0)] = 8
    """Different words without which a reasoning block is trivial. The publication gives no number."""
    folds: Annotated[int, Field(ge=2)] = 10
    """One of so many folds of whole groups of runs is held out."""
    held_out: Count = 64
    """At most so many of its runs are asked about, before and after."""
    save_every: Count = 50
    """Steps between checkpoints; a multiple of ``passes``."""
    adapter: Adapter | None = None
    """None trains all weights. Whether the publication used one is not known."""
    engine: Engine = Engine()

    @property
    def answers(self) -> int:
        """Answers in a step."""
        return self.questions * self.group

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """The recipe in a TOML file.

        Raises:
            InputError: it cannot be read, or has unknown or wrong fields, all of which are named.
        """
        return fields(cls, document(path), str(path))


def arguments(recipe: Recipe, folder: Path, devices: int) -> "GRPOConfig":
    """The trainer's own options that make the recipe.

    Args:
        recipe: of the learning.
        folder: of the checkpoints.
        devices: on which it runs, a process each.

    Raises:
        InputError: the answers of a step cannot be spread evenly, or a checkpoint would fall between its passes.
    """
    from trl.trainer.grpo_config import GRPOConfig

    engine = recipe.engine
    at_once = engine.answers_at_once * devices
    if recipe.answers % at_once:
        raise InputError(
            f"expected questions x group ({recipe.answers}) to be a multiple of engine.answers_at_once x devices"
            f" ({at_once}); change one of them"
        )
    if recipe.save_every % recipe.passes:
        raise InputError(
            f"expected save_every to be a multiple of passes ({recipe.passes}), got {recipe.save_every}; the answers of"
            " a step are not kept in checkpoints"
        )
    return GRPOConfig(
        seed=recipe.seed,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        # The objective: separate normalisation, two-sided clip by token, mean over tokens and then over answers, and
        # the plain divergence of GRPO (arXiv:2402.03300 eq. 4), which the trainer's default would weight by the ratio.
        num_generations=recipe.group,
        multi_objective_aggregation="normalize_then_sum",
        reward_weights=[getattr(recipe.weights, axis.value) for axis in AXES],
        importance_sampling_level="token",
        epsilon=recipe.clip_low,
        epsilon_high=recipe.clip_high,
        beta=recipe.kl,
        use_bias_correction_kl=False,
        num_iterations=recipe.passes,
        temperature=recipe.temperature,
        max_completion_length=recipe.answer_tokens,
        per_device_train_batch_size=engine.answers_at_once,
        gradient_accumulation_steps=recipe.answers // at_once,
        per_device_eval_batch_size=recipe.group,
        **options(engine, folder, recipe.prompt_tokens + recipe.answer_tokens, recipe.save_every),
    )
