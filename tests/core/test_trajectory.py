"""The trajectory: prefixes, arguments, and that importing Gelert stays light."""

import subprocess
import sys

from gelert import Role, Step, ToolCall, Trajectory


def test_prefixes_grow_by_one_step_and_end_with_the_whole() -> None:
    whole = Trajectory((Step(Role.USER, "hi"), Step(Role.AGENT, "hello"), Step(Role.USER, "bye")))
    grown = list(whole.prefixes())
    assert [len(p.steps) for p in grown] == [1, 2, 3]
    assert grown[-1] == whole


def test_arguments_that_are_no_object_parse_to_none() -> None:
    assert ToolCall("pay", '{"amount": 3}').parsed() == {"amount": 3}
    assert ToolCall("pay", "[1]").parsed() is None
    assert ToolCall("pay", "{'amount': 3}").parsed() is None


def test_only_the_user_and_the_deployer_are_trusted() -> None:
    assert [role for role in Role if Step(role).trusted] == [Role.SYSTEM, Role.USER]


def test_importing_gelert_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "transformers", "pydantic", "httpx")
    code = f"import gelert, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
