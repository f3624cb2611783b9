"""A LoRA adapter as recipes have it, and what is written of a model that was trained with one or without."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field

from gelert.backends.local_chat import ADAPTER as PEFT
from gelert.core.errors import InputError
from gelert.forge.recipe_file import Strict

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import Trainer

ADAPTER, MODEL = "adapter", "model"
"""The folder of an adapter, in PEFT's form, and that of a whole model."""

Count = Annotated[int, Field(ge=1)]


class Adapter(Strict):
    """A LoRA adapter on every linear map of the blocks."""

    rank: Count = 16
    alpha: Count = 32
    merge: bool = True
    """Also write the whole model with the adapter in it, to go on with, or for a server that knows no adapters."""
    blocks: Count | None = None
    """Only the last so many: what lies below them needs no gradient, which saves a third of a step or more."""

    def config(self, model: Path) -> "LoraConfig":
        """As PEFT has it.

        Args:
            model: folder of the model.

        Raises:
            InputError: the model has fewer blocks.
        """
        from peft import LoraConfig
        from transformers import AutoConfig

        from gelert.lm.bank import TARGETS

        shape = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        if self.blocks is None:
            return shape
        every = int(AutoConfig.from_pretrained(model).num_hidden_layers)
        if self.blocks > every:
            raise InputError(f"expected adapter.blocks of at most {every}, which the model has, got {self.blocks}")
        return replace(shape, target_modules=list(TARGETS), layers_to_transform=[*range(every - self.blocks, every)])


def write(trainer: "Trainer", adapter: Adapter | None, name: str, out: Path) -> list[Path]:
    """Write an adapter, the whole model, or both; gives their folders.

    Args:
        trainer: that has ended.
        adapter: that was trained; None where all weights were.
        name: of the model that was begun with, which an adapter tells instead of where it lies here.
        out: the folder of the training.
    """
    if adapter is None:
        trainer.save_model(str(out / MODEL))
        return [out / MODEL]
    trainer.save_model(str(out / ADAPTER))
    if not trainer.is_world_process_zero():
        return [out / ADAPTER]
    # Only now: what writes an adapter would look the model's name up on the hub.
    config = json.loads((out / ADAPTER / PEFT).read_text(encoding="utf-8")) | {"base_model_name_or_path": name}
    (out / ADAPTER / PEFT).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if not adapter.merge:
        return [out / ADAPTER]
    net = cast("Any", trainer.accelerator.unwrap_model(trainer.model)).merge_and_unload()
    net.save_pretrained(out / MODEL)
    cast("Any", trainer.processing_class).save_pretrained(out / MODEL)
    return [out / ADAPTER, out / MODEL]
