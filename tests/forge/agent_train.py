"""A tiny seeded model whose tokenizer is made for the worlds' conversations, and a recipe that it can follow."""

from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gelert.core.trajectory import Role, Trajectory
from gelert.forge.agent_sft import candidates
from gelert.forge.agent_train_lessons import MOST_TURNS, conversation
from gelert.forge.agent_train_recipe import Adapter, Demonstrations, Recipe
from gelert.lm import toy
from gelert.worlds.catalogue import catalogue
from gelert.worlds.toolcalls import Form

SHOWN = Demonstrations(count=3, plain=1.0, flawed=0.0, worlds=("mail",))


@cache
def runs() -> list[Trajectory]:
    """Five; the sixth that ``SHOWN`` makes has more turns than an agent has in play."""
    made = [one.run for one in candidates(catalogue(["mail"]), 3, plain=1.0, flawed=0.0)]
    found = [run for run in made if sum(step.role is Role.AGENT for step in run.steps) <= MOST_TURNS]
    assert (len(made), len(found)) == (6, 5)
    return found


def tiny(folder: Path) -> Path:
    """A model in ``folder`` that has learnt nothing yet; a conversation of the mail world fits it whole."""
    tokenizer = _tokenizer()
    told = toy.config("llama", layers=2, width=32)
    told.update({"vocab_size": len(tokenizer), "max_position_embeddings": 4096, "pad_token_id": 0})
    torch.manual_seed(0)
    LlamaForCausalLM(cast("Any", told)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, **changed: object) -> Recipe:
    own = Recipe(
        model=str(model),
        demonstrations=SHOWN,
        steps=4,
        batch=2,
        learning_rate=1e-2,
        save_every=2,
        adapter=Adapter(rank=4, alpha=8),
    )
    return own.model_copy(update=changed)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=list(toy.SPECIALS), initial_alphabet=letters, show_progress=False
    )
    words.train_from_iterator([one.content for run in runs() for one in conversation(run, Form.HERMES)], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=toy.SPECIALS[1], eos_token=toy.SPECIALS[2], pad_token=toy.SPECIALS[0]
    )
    made.chat_template = toy.CHATML
    return made
