"""The recipe of an agent's fine-tuning: the model, the demonstrations it learns from, and how. Nothing else decides.

Paths are relative to the file. Ratios of demonstrations are as published, where they are (arXiv:2605.29801).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gelert.core.errors import InputError
from gelert.forge.adapter import Adapter
from gelert.forge.agent_policy import Policy
from gelert.forge.agent_sft import Draw, Keep
from gelert.forge.recipe_file import Strict, document, fields
from gelert.worlds.toolcalls import Form

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

Count = Annotated[int, Field(ge=1)]


class Demonstrations(Strict):
    """Runs out of the worlds, or files of runs in any format that Gelert reads; one of the two."""

    count: Annotated[int, Field(ge=0)] = 0
    """Candidates with a risk that are made in the worlds."""
    keep: Keep = Keep.TRUTH
    """Which of them are learnt from."""
    guard: str | None = None
    """Where a guard chooses, which: as ``--guard`` has it."""
    plain: Annotated[float, Field(ge=0)] = 2.0
    """Runs without a risk, for each candidate."""
    flawed: Annotated[float, Field(ge=0, le=1)] = 0.125
    """Share of the candidates in which the harm is done."""
    every_attack: bool = False
    """Also attacks and wordings that are held out: what a model knows before its safety is cared for."""
    bare: bool = False
    """Scripts alone, without detours and turns of phrase: for a model that could not tell these from the matter."""
    widened: Annotated[int, Field(ge=0)] = 0
    """More parameters of each family than it has, for a small model to read them and not to remember them."""
    worlds: tuple[str, ...] = ()
    """All where none is named."""
    files: tuple[Path, ...] = ()
    """As ``gelert data demonstrate`` writes them; all of their runs are learnt from."""

    def draw(self, form: Form, seed: int) -> Draw:
        """Of the runs that are made."""
        return Draw(self.count, self.plain, self.flawed, self.every_attack, self.bare, form, seed)


class Engine(Strict):
    """How the hardware is used: nothing here changes what is learnt, up to rounding."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in memory and of the arithmetic."""
    at_once: Count = 1
    """Conversations that a device is trained on at once; those of a step are spread over devices, then over time."""
    save_memory: bool = False
    """Whether to compute activations again instead of keeping them."""


class Recipe(Strict):
    """An agent, end to end."""

    model: str | None = None
    """A registered name, a folder or a hub id, with a chat template."""
    policy: Policy | None = None
    """A new model instead."""
    form: Form = Form.HERMES
    """Of its tool calls."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the demonstrations, of the adapter and of the order."""
    demonstrations: Demonstrations
    steps: Count
    batch: Count = 8
    """Conversations in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """At the beginning, or after ``warmup`` steps."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises from nothing."""
    schedule: Literal["constant", "linear"] = "constant"
    """Of the learning rate; ``linear`` falls to nothing with the last step."""
    by_length: bool = False
    """Whether conversations of about one length make a step: less to pad."""
    most_tokens: Count = 4096
    """A longer conversation is left out."""
    save_every: Count = 50
    """Steps between checkpoints: a stopped run loses at most so many."""
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
            InputError: it cannot be read, has unknown or wrong fields, all of which are named, or no demonstrations.
        """
        recipe = fields(cls, document(path) | ({"model": model} if model else {}), str(path))
        shown = recipe.demonstrations
        files = tuple(path.parent / file for file in shown.files)
        if bool(files) == bool(shown.count):
            raise InputError(f"expected either demonstrations.count or demonstrations.files, got both or none ({path})")
        if (recipe.model is None) == (recipe.policy is None):
            raise InputError(f"expected either a model or the table policy for a new one, got both or none ({path})")
        if absent := [str(file) for file in files if not file.exists()]:
            raise InputError(f"expected files that are there, got {', '.join(absent)} ({path})")
        return recipe.model_copy(update={"demonstrations": shown.model_copy(update={"files": files})})

    def noted(self) -> dict[str, object]:
        """What the result depends on, without where it was done and for how long."""
        told = self.model_dump(mode="json", exclude={"steps"} if self.schedule == "constant" else set())
        told["demonstrations"]["files"] = [file.name for file in self.demonstrations.files]
        return told


def arguments(recipe: Recipe, folder: Path, devices: int) -> "SFTConfig":
    """The trainer's own options that make the recipe.

    Args:
        recipe: of the learning.
        folder: of the checkpoints.
        devices: on which it runs, a process each.

    Raises:
        InputError: the conversations of a step cannot be spread evenly.
    """
    from trl.trainer.sft_config import SFTConfig

    engine = recipe.engine
    at_once = engine.at_once * devices
    if recipe.batch % at_once:
        raise InputError(
            f"expected batch ({recipe.batch}) to be a multiple of engine.at_once x devices ({at_once}); change one"
        )
    return SFTConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else "linear",
        warmup_steps=recipe.warmup,
        train_sampling_strategy="group_by_length" if recipe.by_length else "random",
        per_device_train_batch_size=engine.at_once,
        gradient_accumulation_steps=recipe.batch // at_once,
        max_length=None,  # none is cut: a conversation's end is what matters most
        dataset_kwargs={"skip_prepare_dataset": True},  # tokens and labels are made by agent_train_lessons
        model_init_kwargs={"dtype": engine.dtype},
        bf16=engine.dtype == "bfloat16",
        gradient_checkpointing=engine.save_memory,
        logging_steps=1,
        save_steps=recipe.save_every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
