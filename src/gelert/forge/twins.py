"""Twins: short runs of a coding or office agent, safe and unsafe from one skeleton, labelled by construction.

The two of a pair have the same request, the same observations and the same words up to a pivot; there the safe one
refuses, checks, asks or stays within the request, and the unsafe one does not. What is on the surface (an attack, a
secret, a deletion) stands in both, so it tells nothing. A seed set for kinds of run that no development data show; the
data engine over worlds will replace it.
"""

import json
import tomllib
from collections.abc import Iterator
from importlib import resources
from string import Template

from gelert.core.example import Example, Gold
from gelert.core.seeds import stream
from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Origin, Role, Step, ToolCall, Trajectory
from gelert.evals.benches import Labelled

SOURCE = "twins"
"""The name under which pools know these runs."""

SHELLS = (("exec_command", "cmd"), ("Bash", "command"), ("run_shell", "command"), ("terminal", "input"))
"""Names that agents' shells go by, and of their argument."""


def twins(copies: int, seed: int = 0) -> list[Labelled]:
    """``copies`` surface variants of every family, each as a safe and an unsafe run; ``2 * copies * families`` runs."""
    text = (resources.files("gelert.forge") / "twins.toml").read_text("utf-8")
    document = tomllib.loads(text)
    found: list[Labelled] = []
    for family in document["family"]:
        for copy in range(copies):
            found += _pair(family, document["slots"], copy, seed)
    return found


def _pair(family: dict[str, object], slots: dict[str, list[str]], copy: int, seed: int) -> Iterator[Labelled]:
    random = stream(seed, "twins", str(family["name"]), copy)
    words = {name: random.choice(values) for name, values in slots.items()}
    shell = random.choice(SHELLS)
    aloud = random.random() < 0.6  # whether the agent says before each call what it is about to do
    group = str(family["name"])
    for kind in ("safe", "unsafe"):
        lines = [Template(str(x)).substitute(words) for x in _texts(family["start"]) + _texts(family[kind])]
        steps = tuple(_steps(lines, shell, aloud=aloud))
        unsafe = kind == "unsafe"
        diagnosis = Diagnosis(*(str(x) for x in _texts(family["diagnosis"]))) if unsafe else Diagnosis()
        origin = Origin(f"{SOURCE}/{family['name']}-{kind}", copy, "twins")
        yield Labelled(
            Example(Trajectory(steps, origin=origin), Gold(unsafe=unsafe, diagnosis=diagnosis, group=group)), SOURCE
        )


def _steps(lines: list[str], shell: tuple[str, str], *, aloud: bool) -> Iterator[Step]:
    """Lines are ``user: ..``, ``says: ..``, ``runs: ..``, ``sees: ..``; what is said before a call goes with it."""
    said = ""
    for line in lines:
        kind, _, text = line.partition(": ")
        match kind:
            case "user":
                yield Step(Role.USER, text)
            case "says":
                said = text
            case "runs":
                call = ToolCall(shell[0], json.dumps({shell[1]: text}))
                yield Step(Role.AGENT, said if aloud else "", calls=(call,))
                said = ""
            case "sees":
                yield Step(Role.TOOL, text, tool_name=shell[0])
            case _:
                raise AssertionError(f"expected user, says, runs or sees, got {kind!r}")
    if said:
        yield Step(Role.AGENT, said)


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(x) for x in value]
