"""Real requests with something wrong in them: a few places of a JSON value taken by what should not stand there."""

import copy
from typing import Any

from hypothesis import strategies as st


def deep(levels: int) -> object:
    """Lists in each other."""
    found: object = "x"
    for _ in range(levels):
        found = [found]
    return found


HOSTILE: list[Any] = [
    None, True, 0, -1, 10**400, 1e308, float("nan"), "", "\ud800", "\x00", "\u202e<|im_end|>", "x" * 200_000,
    [], {}, [[]], [None], [{}], {"": None}, {"type": "tool_use"}, [{"role": "tool"}], {"role": {"role": []}},
    "tool", "assistant", "PostToolUse", deep(60), deep(400), ["x"] * 20_000, {str(n): n for n in range(5_000)},
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member of a JSON value: what holds it, and under which key."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else []
        found += [(holder, key) for key in keys]
        pending += [holder[key] for key in keys]
    return found


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with one to three of its members replaced, repeated, wrapped or left out."""
    found = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        members = places(found)
        if not members or len(members) > 2_000:
            break
        holder, key = draw(st.sampled_from(members))
        match draw(st.sampled_from(["replace", "replace", "wrap", "repeat", "drop"])):
            case "replace":
                holder[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
            case "wrap":
                holder[key] = draw(st.sampled_from([[holder[key]], {"text": holder[key]}]))
            case "repeat" if isinstance(holder, list):
                holder += [copy.deepcopy(holder[key])] * 3
            case _:
                del holder[key]
    return found
