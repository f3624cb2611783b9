"""A tiny model that keeps the fine contract's form and says either leaf of each axis, and runs to ask it about."""

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
from transformers import LlamaForCausalLM

from gelert.core.example import Example, Gold
from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, builtin
from gelert.core.trajectory import Origin, Role, Step, ToolCall, Trajectory
from gelert.evals.benches import Labelled
from gelert.forge.guard_rl_reward import CONTRACT
from gelert.guard.prompts.agentdog import render
from gelert.lm import toy
from tests.forge.words import tokenizer

LEAVES = {
    Axis.FAILURE_MODE: ("choosing_malicious_tool", "unauthorized_information_disclosure"),
    Axis.HARM: ("financial_and_economic_harm", "privacy_and_confidentiality_harm"),
    Axis.RISK_SOURCE: ("direct_prompt_injection", "indirect_prompt_injection"),
}
GOLD = Diagnosis("indirect_prompt_injection", "choosing_malicious_tool", "privacy_and_confidentiality_harm")
TITLES = {Axis.FAILURE_MODE: "Failure Mode", Axis.HARM: "Risk Consequence", Axis.RISK_SOURCE: "Risk Source"}
ANALYSIS = "<Analysis>The agent believed a page and gave away what was private.</Analysis>"


@cache
def taxonomy() -> Taxonomy:
    return Taxonomy(tuple(leaf for leaf in builtin().leaves if leaf.slug in LEAVES[leaf.axis]))


def item(number: int, *, gold: Diagnosis = GOLD, said: str = "Pay the bill.", unsafe: bool = True) -> Labelled:
    """A run about nothing in particular; four groups."""
    call = ToolCall("send", f'{{"to": "{number}"}}')
    run = Trajectory(
        (Step(Role.USER, said), Step(Role.AGENT, calls=(call,)), Step(Role.AGENT, "Done.")),
        origin=Origin("runs/runs.jsonl", number),
    )
    return Labelled(Example(run, Gold(unsafe=unsafe, diagnosis=gold, group=str(number % 4))), "runs")


def prompt(one: Labelled) -> str:
    (message,) = render(CONTRACT, one.example.trajectory, taxonomy())
    return message.content


def answers() -> list[tuple[str, ...]]:
    """Every answer in form, as the lines that are a token each."""
    names = [[f"\n{TITLES[axis]}: {leaf.name}" for leaf in taxonomy().leaves if leaf.axis == axis] for axis in TITLES]
    return [(ANALYSIS, *lines) for lines in product(*names)]


def taught(folder: Path, *, steps: int = 60) -> Path:
    """A tiny model in ``folder`` that gives each answer in form about equally often, whatever it is asked."""
    tuples = answers()
    words = tokenizer([prompt(item(0))], 800, sorted({line for one in tuples for line in one}))
    told = toy.config("llama", layers=2, width=32)
    told.update({"vocab_size": len(words), "initializer_range": 0.05, "pad_token_id": 0})
    torch.manual_seed(0)
    net = LlamaForCausalLM(cast("Any", told))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    said = [{"role": "user", "content": prompt(item(0))}]
    asked = cast("Any", words.apply_chat_template(said, add_generation_prompt=True, return_dict=True))["input_ids"]
    ids = [[*cast("list[int]", words.convert_tokens_to_ids(list(one))), 2] for one in tuples]
    rows = torch.tensor([asked + one for one in ids])
    for _ in range(steps):
        logits = net(rows).logits[:, len(asked) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, len(asked) :].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
