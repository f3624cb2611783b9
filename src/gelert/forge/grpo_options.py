"""What all recipes of learning by reward tell TRL's ``GRPOTrainer`` alike: hardware, checkpoints, what is shown."""

from pathlib import Path
from typing import Any, Literal, Protocol


class Engine(Protocol):
    """How the hardware is used, as the recipes of guards and of agents have it."""

    @property
    def dtype(self) -> Literal["float32", "bfloat16"]: ...  # noqa: D102
    @property
    def save_memory(self) -> bool: ...  # noqa: D102
    @property
    def vllm(self) -> Literal["none", "colocate", "server"]: ...  # noqa: D102
    @property
    def vllm_address(self) -> str: ...  # noqa: D102
    @property
    def vllm_memory(self) -> float: ...  # noqa: D102


def options(engine: Engine, folder: Path, context: int, save_every: int) -> dict[str, Any]:
    """Arguments of ``GRPOConfig``.

    Args:
        engine: of the recipe.
        folder: of the checkpoints.
        context: tokens that vLLM must have room for.
        save_every: steps between checkpoints.
    """
    return {
        "output_dir": str(folder),
        "lr_scheduler_type": "constant",
        "loss_type": "grpo",
        "model_init_kwargs": {"dtype": engine.dtype},
        "bf16": engine.dtype == "bfloat16",
        "gradient_checkpointing": engine.save_memory,
        "use_vllm": engine.vllm != "none",
        "vllm_mode": "server" if engine.vllm == "server" else "colocate",
        "vllm_server_base_url": engine.vllm_address if engine.vllm == "server" else None,
        "vllm_gpu_memory_utilization": engine.vllm_memory,
        "vllm_max_model_length": context,
        "logging_steps": 1,
        "save_steps": save_every,
        "save_total_limit": 2,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,  # rows are texts
    }
