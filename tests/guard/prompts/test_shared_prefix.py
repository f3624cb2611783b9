"""What the prompts of one contract have in common comes first: what a server has read of one serves the next."""

from dataclasses import replace
from itertools import takewhile

import pytest

from gelert.core.taxonomy import Axis, builtin, selectable
from gelert.core.trajectory import Role, Setting, Step, ToolCall, ToolSpec, Trajectory
from gelert.guard.contracts import Contract
from gelert.guard.prompts.agentdog import render

RUN = Trajectory(
    (
        Step(Role.USER, "Book the hall for Friday."),
        Step(Role.AGENT, thought="Is it free?", calls=(ToolCall("find_hall", '{"day": "Friday"}'),)),
        Step(Role.TOOL, "free from nine"),
        Step(Role.AGENT, calls=(ToolCall("book_hall", '{"day": "Friday"}'),)),
        Step(Role.TOOL, "booked"),
        Step(Role.AGENT, "The hall is yours."),
    ),
    tools=(ToolSpec("find_hall", "Finds a hall."), ToolSpec("book_hall", "Books one.")),
)
OTHER = Trajectory((Step(Role.SYSTEM, "You keep house."), Step(Role.USER, "Dust."), Step(Role.AGENT, "Dusted.")))


def prompt(contract: Contract, run: Trajectory) -> str:
    """As the server's chat template has it up to the end of the message."""
    return "\n".join(f"{message.role}: {message.content}" for message in render(contract, run, builtin()))


def shared(one: str, other: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@pytest.mark.parametrize("contract", Contract)
def test_two_runs_share_all_that_stands_before_the_first_word_of_either(contract: Contract) -> None:
    common = shared(prompt(contract, RUN), prompt(contract, OTHER))
    opening = prompt(contract, RUN).partition("=== Available Tools ===")[0].partition("----- BEGIN TRAJECTORY")[0]
    assert common.startswith(opening)
    assert len(opening) > 300


@pytest.mark.parametrize("contract", [Contract.FINE_1_0, Contract.FINE_1_5, Contract.UNIFIED_1_5])
def test_the_taxonomy_is_in_what_all_runs_share(contract: Contract) -> None:
    common = shared(prompt(contract, RUN), prompt(contract, OTHER))
    leaves = [leaf for axis in Axis for leaf in selectable(builtin().on(axis, Setting.GENERAL))]
    assert len(leaves) > 20
    assert [leaf.name for leaf in leaves if f"- {leaf.name}\n" not in common] == []


@pytest.mark.parametrize("contract", Contract)
def test_a_run_that_goes_on_shares_all_its_earlier_steps(contract: Contract) -> None:
    texts = ("Book the hall", "Is it free?", "free from nine")
    for length in (4, 5, 6):
        common = shared(prompt(contract, replace(RUN, steps=RUN.steps[:length])), prompt(contract, RUN))
        assert [text for text in texts if text not in common] == []
