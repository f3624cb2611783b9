"""A tiny seeded model whose tokenizer is made for the worlds' conversations, and a recipe that it can follow."""

from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import LlamaForCausalLM

from gelert.core.trajectory import Trajectory
from gelert.forge.adapter import Adapter
from gelert.forge.agent_sft import Draw, candidates
from gelert.forge.agent_train_lessons import MOST_TURNS, conversation, turns
from gelert.forge.agent_train_recipe import Demonstrations, Recipe
from gelert.lm import toy
from gelert.worlds.catalogue import catalogue
from gelert.worlds.toolcalls import Form
from tests.forge.words import tokenizer

SHOWN = Demonstrations(count=3, plain=1.0, flawed=0.0, worlds=("mail",))


@cache
def runs() -> list[Trajectory]:
    """Five; the sixth that ``SHOWN`` makes has more turns than an agent has in play."""
    made = [one.run for one in candidates(catalogue(["mail"]), Draw(3, 1.0, 0.0))]
    found = [run for run in made if turns(run) <= MOST_TURNS]
    assert (len(made), len(found)) == (6, 5)
    return found


def tiny(folder: Path) -> Path:
    """A model in ``folder`` that has learnt nothing yet; a conversation of the mail world fits it whole."""
    words = tokenizer((one.content for run in runs() for one in conversation(run, Form.HERMES)), 900)
    told = toy.config("llama", layers=2, width=32)
    told.update({"vocab_size": len(words), "max_position_embeddings": 4096, "pad_token_id": 0})
    torch.manual_seed(0)
    LlamaForCausalLM(cast("Any", told)).save_pretrained(folder)
    words.save_pretrained(folder)
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
