"""What the tests ask of a read."""

import io
import json
import re
from dataclasses import asdict

from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.guard.formats import Limits, read, read_value

LIMITS = Limits()


def taken(value: object, name: str = "auto", limits: Limits = LIMITS) -> Example:
    found = read_value(value, format=name, limits=limits)
    assert isinstance(found, Example), found
    return found


def run(value: object, name: str = "auto") -> Trajectory:
    return taken(value, name).trajectory


def refusal(value: object, name: str = "auto", limits: Limits = LIMITS) -> str:
    found = read_value(value, format=name, limits=limits)
    assert isinstance(found, Refusal), found
    return found.reason


def from_text(text: str | bytes, name: str = "auto", limits: Limits = LIMITS) -> list[Example | Refusal]:
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return list(read(io.BytesIO(raw), format=name, limits=limits))


def examples(found: list[Example | Refusal]) -> list[Example]:
    return [item for item in found if isinstance(item, Example)]


def refusals(found: list[Example | Refusal]) -> list[Refusal]:
    return [item for item in found if isinstance(item, Refusal)]


def lines(values: object) -> str:
    assert isinstance(values, list)
    return "".join(json.dumps(value) + "\n" for value in values)


def roles(trajectory: Trajectory) -> str:
    """The roles as letters: s, u, a, t, and r for the runtime."""
    return "".join(step.role.value[0] for step in trajectory.steps)


def told(trajectory: Trajectory) -> str:
    """Everything a judge could see."""
    return json.dumps([asdict(step) for step in trajectory.steps]) + json.dumps([asdict(x) for x in trajectory.tools])


def tokens(text: str) -> set[str]:
    return set(re.findall(r"tok_[a-z0-9_]+", text))


def step_with(trajectory: Trajectory, token: str) -> Step:
    """The only step that holds a text."""
    found = [step for step in trajectory.steps if token in json.dumps(asdict(step))]
    assert len(found) == 1, (token, found)
    return found[0]


def texts(trajectory: Trajectory, role: Role) -> list[str]:
    return [step.text for step in trajectory.steps if step.role == role]
