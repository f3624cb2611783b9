"""Tiny seeded models of each supported family and a tokenizer of bytes, made in memory: for tests and examples."""

from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma3TextConfig, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen3Config

Family = Literal["llama", "qwen", "gemma"]

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Control tokens of the byte tokenizer, ids 0 to 2."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The byte tokenizer's chat template."""

CONTEXT_TOKENS = 2048
WINDOW_TOKENS = 16
"""The sliding window of the tiny Gemma: short, so that short tests cross it."""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token a byte and the three control tokens of ChatML."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIALS[1],
        eos_token=SPECIALS[2],
        unk_token=SPECIALS[0],
        chat_template=CHATML,
    )


def config(family: Family, *, layers: int, width: int) -> PreTrainedConfig:
    """The configuration of a tiny model: 4 query heads on 2 key heads, and what is peculiar to the family."""
    common: dict[str, Any] = {
        "vocab_size": len(SPECIALS) + 256,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "max_position_embeddings": CONTEXT_TOKENS,
        "tie_word_embeddings": family != "qwen",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "initializer_range": 0.2,
    }
    match family:
        case "llama":
            return LlamaConfig(**common)
        case "qwen":
            return Qwen3Config(**common)
        case "gemma":
            pattern = ["full_attention" if number % 3 == 2 else "sliding_attention" for number in range(layers)]
            peculiar: dict[str, Any] = {
                "sliding_window": WINDOW_TOKENS,
                "layer_types": pattern,
                "final_logit_softcapping": 30.0,
            }
            return Gemma3TextConfig(**common, **peculiar, query_pre_attn_scalar=width // 4)
