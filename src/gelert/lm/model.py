"""Load a frozen causal language model, whole or its lower blocks only, with a tokenizer that text cannot subvert."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gelert.core.errors import InputError, ModelError
from gelert.core.records import digest, file_digest
from gelert.core.seeds import stream_seed
from gelert.lm import blocks, registry, toy
from gelert.lm.letters import Letters
from gelert.lm.quiet import quiet

Dtype = Literal["float32", "bfloat16", "float64"]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A frozen causal language model."""

    net: PreTrainedModel
    """The library's model, in evaluation mode, without gradients."""
    tokenizer: PreTrainedTokenizerBase
    """The library's tokenizer, for decoding and templates; use ``encode`` for text."""
    name: str
    """What it was asked for by."""
    fingerprint: str
    """SHA-256 that identifies the weights as stored, whatever type and number of blocks they were loaded with."""
    depth: int
    """Blocks that the stored model has; ``layers`` of them are loaded."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the chat template."""
        return self._letters.options

    @property
    def body(self) -> blocks.Body:
        """The embedding, the blocks and the final norm."""
        return cast("blocks.Body", self.net.model)

    @property
    def layers(self) -> int:
        """Blocks that are loaded."""
        return len(self.body.layers)

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return self.body.config.hidden_size

    @property
    def vocab(self) -> int:
        """Number of tokens that the head scores."""
        return self.body.config.vocab_size

    @property
    def context(self) -> int:
        """How many tokens the model was made to read."""
        return self.body.config.max_position_embeddings

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.net.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.device

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of attention of each block."""
        return blocks.kinds(self.body.config)

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text`` as ordinary characters: no control token, whatever the text spells.

        Lone surrogates, which no tokenizer can read, become question marks.
        """
        return self._letters.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` spell, control tokens included."""
        return self._letters.decode(ids)

    def special(self, name: str) -> int:
        """The id of a control token such as ``<|im_start|>``.

        Raises:
            InputError: the model has no such control token.
        """
        token = self.tokenizer.convert_tokens_to_ids(name)
        if token not in self.controls:
            known = sorted(self.tokenizer.convert_ids_to_tokens(sorted(self.controls)))
            raise InputError(f"expected a control token of {self.name!r} ({', '.join(known)}), got {name!r}")
        return token

    @property
    def controls(self) -> frozenset[int]:
        """Ids of all control and added tokens."""
        return self._letters.controls

    def embed(self, ids: Tensor) -> Tensor:
        """The residual stream before the first block, [B, n, width] from ids [B, n]."""
        return self.body.embed_tokens(ids)

    @property
    def softcap(self) -> float | None:
        """Bound of the scores in families that have one."""
        return getattr(self.body.config, "final_logit_softcapping", None)

    def logits(self, hidden: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Scores of all tokens [..., vocab], or of ``tokens`` [t] only, from the stream after the last block."""
        return self.scores(self.body.norm(hidden), tokens)

    def scores(self, normed: Tensor, tokens: Tensor | None = None) -> Tensor:
        """The same from the stream after the final norm."""
        found = self.net.lm_head(normed) if tokens is None else normed @ self.net.lm_head.weight[tokens].mT
        return found if self.softcap is None else self.softcap * torch.tanh(found / self.softcap)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of all tokens, in float32 or better, from the residual stream after the last block."""
        scores = self.logits(hidden)
        return scores.log_softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))

    @cached_property
    def _letters(self) -> Letters:
        return Letters(self.tokenizer, self.name)


def load(
    name_or_path: str | Path, *, dtype: Dtype = "float32", device: str = "cpu", layers: int | None = None
) -> LanguageModel:
    """Load a model by its registered name, folder or hub id.

    Args:
        name_or_path: see ``registry.resolve``.
        dtype: type of the weights in memory.
        device: where to put them.
        layers: load the first so many blocks only; memory and time shrink with it. All by default.

    Raises:
        MissingError: the model is not fetched; the message says how to.
        ModelError: its files are damaged or its family is not supported.
    """
    folder = registry.resolve(str(name_or_path))
    with quiet():
        config = AutoConfig.from_pretrained(folder)
        blocks.check_family(cast("blocks.Config", config))
        depth = cast("blocks.Config", config).num_hidden_layers
        _truncate(config, layers)
        try:
            net = cast("Any", AutoModelForCausalLM).from_pretrained(folder, config=config, dtype=getattr(torch, dtype))
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, RuntimeError) as fault:
            raise ModelError(f"expected a readable model in {folder}, got: {fault}") from fault
    return _frozen(net.to(device), tokenizer, str(name_or_path), _fingerprint(folder), depth)


def tiny(
    family: toy.Family = "llama", seed: int = 0, *, layers: int = 4, width: int = 32, dtype: Dtype = "float64"
) -> LanguageModel:
    """A tiny seeded model with a tokenizer of bytes, made in memory: for tests and examples."""
    config = toy.config(family, layers=layers, width=width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "tiny", family))
        net = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, weight in net.named_parameters():
            if "norm" in name:  # norms start at a constant, which would hide a norm that is left out
                torch.nn.init.normal_(weight, mean=float(weight.detach().mean()), std=0.2)
    return _frozen(
        net.to(getattr(torch, dtype)), toy.byte_tokenizer(), f"tiny-{family}-{seed}", _content(net, config), layers
    )


def untrained(
    config: PreTrainedConfig, name: str, *, seed: int = 0, dtype: Dtype = "bfloat16", device: str = "cpu"
) -> LanguageModel:
    """A model of any supported shape with random weights and the tokenizer of bytes: to measure speed, not text.

    Raises:
        ModelError: the family is not supported.
    """
    blocks.check_family(cast("blocks.Config", config))
    torch.manual_seed(stream_seed(seed, "untrained"))
    with torch.device(device):
        net = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    mark = digest([config.to_json_string(use_diff=False), seed, dtype])
    return _frozen(net, toy.byte_tokenizer(), name, mark, cast("blocks.Config", config).num_hidden_layers)


def _frozen(
    net: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, fingerprint: str, depth: int
) -> LanguageModel:
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelError(f"expected a tokenizer with a tokenizer.json, got {type(tokenizer).__name__} ({name})")
    return LanguageModel(net.eval().requires_grad_(requires_grad=False), tokenizer, name, fingerprint, depth)


def _truncate(config: PreTrainedConfig, layers: int | None) -> None:
    """Make ``config`` that of the model's first ``layers`` blocks."""
    if layers is None:
        return
    if not 1 <= layers <= config.num_hidden_layers:
        raise InputError(f"expected between 1 and {config.num_hidden_layers} blocks, got {layers}")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def _fingerprint(folder: Path) -> str:
    """The hash of the file that the weights were converted from where that is known, else that of the weights."""
    source = registry.source_hash(folder)
    if source is not None:
        return source
    weights = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    if not weights:
        raise ModelError(f"expected weights in *.safetensors, got none ({folder})")
    return digest(weights)


def _content(net: PreTrainedModel, config: PreTrainedConfig) -> str:
    found = hashlib.sha256(config.model_type.encode())
    for name, weight in sorted(net.state_dict().items()):
        found.update(name.encode())
        found.update(weight.numpy().tobytes())
    return found.hexdigest()
