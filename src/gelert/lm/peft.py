"""Adapters on disk in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gelert.core.errors import InputError, ModelError
from gelert.lm.bank import Bank, Spec, one, stack
from gelert.lm.model import LanguageModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model.model.layers."
_KEY = re.compile(re.escape(_PREFIX) + r"(\d+\.(?:self_attn|mlp)\.\w+_proj)\.lora_([AB])\.weight")


class Config(BaseModel):
    """What is read and written of PEFT's configuration; kinds of adapters that we do not run are refused."""

    peft_type: Literal["LORA"] = "LORA"
    task_type: Literal["CAUSAL_LM"] | None = "CAUSAL_LM"
    base_model_name_or_path: str | None = None
    r: int
    lora_alpha: float
    target_modules: list[str] | str
    layers_to_transform: list[int] | int | None = None
    lora_dropout: float = 0.0
    bias: Literal["none"] = "none"
    inference_mode: bool = True
    use_rslora: bool = False
    use_dora: Literal[False] = False
    fan_in_fan_out: Literal[False] = False
    rank_pattern: dict[str, int] = Field(default={}, max_length=0)
    alpha_pattern: dict[str, float] = Field(default={}, max_length=0)
    modules_to_save: None = None
    alora_invocation_tokens: list[int] | None = None
    """The adapter acts from these tokens on, where they come last (arXiv:2504.12397); ``None``: on all."""

    def spec(self) -> Spec:
        """Our form; rank-stabilised scaling ``alpha / sqrt(r)`` becomes the alpha that gives the same."""
        alpha = self.lora_alpha * (math.sqrt(self.r) if self.use_rslora else 1.0)
        return Spec(rank=self.r, alpha=alpha)


def save(model: LanguageModel, bank: Bank, number: int, folder: Path, *, invocation: Sequence[int] = ()) -> None:
    """Write one adapter of ``bank`` into ``folder`` so that PEFT can load it.

    Args:
        model: that it belongs to.
        bank: holds it.
        number: its place there.
        folder: to write to.
        invocation: the tokens from which on it acts; on all tokens if there are none.

    Raises:
        InputError: the adapter is a branch, for which PEFT has no form.
    """
    factors = one(bank, number)
    if branch := next((name for name in factors if name.endswith(".branch")), None):
        raise InputError(f"expected an adapter on linear maps, which PEFT can run, got the branch {branch!r}")
    spec = bank.specs[number]
    config = Config(
        base_model_name_or_path=model.name,
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules=sorted({name.split(".")[2] for name in factors}),
        layers_to_transform=sorted({int(name.split(".")[0]) for name in factors}),
        alora_invocation_tokens=list(invocation) or None,
    )
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in factors.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = down.contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = up.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(model: LanguageModel, folders: Sequence[Path], *, invocation: Sequence[int] = ()) -> Bank:
    """One bank of the adapters in ``folders``, in this order.

    Args:
        model: that they belong to.
        folders: with an adapter each.
        invocation: the tokens from which on the caller lets them act; on all tokens if there are none.

    Raises:
        InputError: no folder was named.
        ModelError: a folder has no adapter that we can run, its maps are not those of ``model``, or it acts from other
            tokens on.
    """
    if not folders:
        raise InputError("expected at least one folder with an adapter, got none")
    read = [_read(folder, invocation) for folder in folders]
    for folder, (_spec, factors) in zip(folders, read, strict=True):
        for name, (down, up) in factors.items():
            _check(model, name, (up.shape[0], down.shape[1]), folder)
    return stack([spec for spec, _factors in read], [factors for _spec, factors in read])


def _read(folder: Path, invocation: Sequence[int]) -> tuple[Spec, dict[str, tuple[Tensor, Tensor]]]:
    try:
        config = Config.model_validate(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, ValidationError, SafetensorError) as fault:
        raise ModelError(f"expected a plain LoRA adapter in PEFT's format, got: {fault} ({folder})") from fault
    if (config.alora_invocation_tokens or []) != list(invocation):
        wanted, came = (ids or "no token in particular" for ids in (list(invocation), config.alora_invocation_tokens))
        raise ModelError(f"expected an adapter that acts from {wanted} on, got one from {came} ({folder})")
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelError(
                f"expected weights named like {_PREFIX}0.mlp.up_proj.lora_A.weight, got {key!r} ({folder})"
            )
        halves.setdefault(match[1], {})[match[2]] = tensor
    lone = [name for name, half in halves.items() if len(half) != 2 or half["A"].shape[0] != config.r]
    if lone or not halves:
        raise ModelError(f"expected factors A and B of rank {config.r} for each map, got others: {lone} ({folder})")
    return config.spec(), {name: (half["A"], half["B"]) for name, half in halves.items()}


def _check(model: LanguageModel, name: str, came: tuple[int, int], folder: Path) -> None:
    weights = dict(model.net.named_parameters())
    key = f"model.layers.{name}.weight"
    if key not in weights or tuple(weights[key].shape) != came:
        expected = tuple(weights[key].shape) if key in weights else "no such map"
        raise ModelError(f"expected an adapter for {model.name!r} ({name}: {expected}), got one for {came} ({folder})")
