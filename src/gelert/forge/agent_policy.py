"""A new small model that learns to act in a few worlds: a tokenizer made for them, and random weights.

Texts that the worlds repeat whole are one token each: policies, names of tools, markers of calls, and the values that
tools tell and take. So a run is short, and a value is copied at once: to copy it piece by piece is what a new model
learns last.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field

from gelert.core.seeds import stream_seed
from gelert.core.trajectory import Role, Trajectory
from gelert.forge.agent_train_lessons import conversation
from gelert.forge.recipe_file import Strict
from gelert.worlds.toolcalls import Form

NEW, WHOLE = "new", "config.json"
"""The folder of the new model, and the file that is written last."""

CONTROLS = ("<|endoftext|>", "<|start|>", "<|end|>", "<|system|>", "<|user|>", "<|agent|>")
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>\n", "\n</tool_response>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'system': '<|system|>', 'user': '<|user|>', 'assistant': '<|agent|>'}[message['role']] }}"
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|agent|>{% endif %}"
)
"""One token opens a turn and one ends it."""

PIECES = (r"\p{N}", r"'(?:s|t|re|ve|m|ll|d)", r" ?\p{L}+", r" ?[^\s\p{L}\p{N}<]+", r"\s+", "<")
"""What a text is cut into before its words are built of letters."""

LONGEST_VALUE, LEAST_RUNS = 40, 3
"""Characters of a value that is one token, and the runs that it is in at least."""

_VALUE = re.compile(rf"\w(?:[^\n]{{,{LONGEST_VALUE - 2}}}\w)?")

SPREAD = 0.05
"""Standard deviation of the weights: with the .02 of large models a narrow one takes twice as many steps."""

HEAD = 32
"""Width of an attention head."""

Count = Annotated[int, Field(ge=1)]


class Policy(Strict):
    """The shape of a new model, of the Llama family."""

    width: Annotated[int, Field(ge=HEAD, multiple_of=HEAD)] = 192
    layers: Count = 4
    vocabulary: Annotated[int, Field(ge=300)] = 2048
    """Tokens, besides the texts that are one token each."""
    context: Count = 4096


def made(policy: Policy, runs: Sequence[Trajectory], form: Form, seed: int, out: Path) -> Path:
    """The folder of the new model in ``out``; it is made where it is not there yet.

    Args:
        policy: its shape.
        runs: whose words it is to know.
        form: of its tool calls.
        seed: of its weights.
        out: folder of the training.
    """
    folder = out / NEW
    if (folder / WHOLE).exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from gelert.lm.quiet import quiet

    words = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(runs, form, policy.vocabulary),
        bos_token=CONTROLS[1],
        eos_token=CONTROLS[2],
        pad_token=CONTROLS[0],
        chat_template=TEMPLATE,
    )
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=policy.width,
        intermediate_size=policy.width * 8 // 3 // HEAD * HEAD,
        num_hidden_layers=policy.layers,
        num_attention_heads=policy.width // HEAD,
        num_key_value_heads=1 if policy.width // HEAD % 2 else 2,
        head_dim=HEAD,
        max_position_embeddings=policy.context,
        tie_word_embeddings=True,
        initializer_range=SPREAD,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(stream_seed(seed, "policy"))
    words.save_pretrained(folder)
    with quiet():
        LlamaForCausalLM(cast("Any", config)).save_pretrained(folder)
    return folder


def _tokenizer(runs: Sequence[Trajectory], form: Form, size: int) -> Any:  # noqa: ANN401 -- the library is a lazy import
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    policies = {step.text for run in runs for step in run.steps if step.role is Role.SYSTEM}
    tools = {f"{tool.name} " for run in runs for tool in run.tools}
    # The longest first: of two that match, the regular expression takes the one that stands first.
    whole, values = (
        sorted(some, key=lambda text: (-len(text), text)) for some in ({*MARKERS, *policies, *tools}, _values(runs))
    )
    bound = rf"\b(?:{'|'.join(map(_quoted, values))})\b"
    # A space before a value is a piece of its own, as it is where no space stands before it.
    pieces = "|".join([*map(_quoted, whole), *([bound, f" (?={bound})"] if values else []), *PIECES])
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pieces), "isolated"), letters])
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROLS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words.train_from_iterator(_texts(runs, form), trainer)
    told = json.loads(words.to_str())
    vocabulary: dict[str, int] = told["model"]["vocab"]
    for text in (*whole, *values):
        ((spelled, _),) = letters.pre_tokenize_str(text)
        vocabulary.setdefault(spelled, len(vocabulary))
    told["model"]["ignore_merges"] = True  # a piece that is in the vocabulary is one token
    return Tokenizer.from_str(json.dumps(told))


def _values(runs: Iterable[Trajectory]) -> set[str]:
    """Values in the JSON of calls and results, of some runs each."""
    counts: Counter[str] = Counter()
    for run in runs:
        told = [step.text for step in run.steps if step.role is Role.TOOL]
        told += [call.arguments for step in run.steps for call in step.calls]
        counts.update({value for text in told for value in _leaves(_read(text)) if _VALUE.fullmatch(value)})
    return {value for value, count in counts.items() if count >= LEAST_RUNS}


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _leaves(value: object) -> Iterator[str]:
    match value:
        case dict():
            for one in cast("dict[str, object]", value).values():
                yield from _leaves(one)
        case list():
            for one in cast("list[object]", value):
                yield from _leaves(one)
        case str():
            yield value
        case bool() | None:
            return
        case _:
            yield json.dumps(value)


def _texts(runs: Iterable[Trajectory], form: Form) -> list[str]:
    """All that is said, without the policies, which are whole."""
    return [one.content for run in runs for one in conversation(run, form) if one.role != "system"]


def _quoted(text: str) -> str:
    """As a regular expression of the tokenizer library has it."""
    return re.sub(r"([\\.^$|?*+()\[\]{}])", r"\\\1", text).replace("\n", r"\n")
