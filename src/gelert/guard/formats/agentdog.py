"""AgentDoG and its kin: ATBench, ATBench500, R-Judge, ASSEBench (``contents``: rounds of turns), AgentDoG's samples.

``goal`` (R-Judge) is one prompt for all records and no part of the run; labels and reasons become Gold. An agent's turn
with a thought and an empty action said its thought: it is all that the user got.
"""

from dataclasses import replace

from gelert.core.trajectory import Provenance, Role, Step
from gelert.guard.formats.actions import parsed
from gelert.guard.formats.labels import gold_of, request_of
from gelert.guard.formats.messages import ROLES, call_of, message_steps, named, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, first, sampled, text_at

_ATTRIBUTES = ("risk_type", "application_scenario", "ambiguous", "attack_type", "scenario", "defense_type")
_PLAIN = ("trajectory", "conversation", "dialog")


def detect(value: object) -> int:
    """90 for rounds of turns, 60 for a plain ``trajectory`` of roles and contents."""
    record = as_object(value)
    rounds = as_list(record.get("contents"))[:3]
    turns = [turn for item in rounds for turn in (sampled(item) or [as_object(item)])]
    if turns and all("role" in turn for turn in turns):
        return 90
    plain = sampled(first(record, *_PLAIN))
    return 60 if plain and all(text_at(turn, "role") in ROLES for turn in plain) else 0


def read(value: object) -> list[Run]:
    """The run, with its labels where there are any."""
    record = as_object(value)
    key = next((key for key in ("contents", *_PLAIN) if isinstance(record.get(key), list)), None)
    if key is None:
        raise Malformed(f"expected 'contents', a list of rounds, got {came(value)}; pass --format for another log")
    steps = [step for turn, pointer in _turns(record[key], f"/{key}") for step in _turn(turn, pointer)]
    group = request_of(steps)
    if profile := text_at(record, "profile"):
        steps.insert(0, Step(Role.SYSTEM, profile, provenance=Provenance("/profile", "profile")))
    gold = gold_of(record, attributes=_ATTRIBUTES, group=group)
    tools = tool_specs(first(record, "tool_used", "tools"))
    return [Run(named(steps), tools, text_at(record, "id", "conv_id"), text_at(record, "agent_model"), gold=gold)]


def _turns(rounds: object, pointer: str) -> list[tuple[object, str]]:
    found: list[tuple[object, str]] = []
    for number, item in enumerate(as_list(rounds)):
        if isinstance(item, list):
            found += [(turn, f"{pointer}/{number}/{place}") for place, turn in enumerate(as_list(item))]
        else:
            found.append((item, f"{pointer}/{number}"))
    return found


def _turn(turn: object, pointer: str) -> list[Step]:
    record = as_object(turn)
    if ROLES.get(text_at(record, "role")) != Role.AGENT:
        return message_steps(turn, pointer)
    return [_agent(record, step) for step in message_steps(turn, pointer)]


def _agent(record: Object, step: Step) -> Step:
    thought = "\n".join(t for t in (step.thought, text_at(record, "thought")) if t)
    action = record.get("action")
    if isinstance(action, dict):
        return replace(step, thought=thought, calls=(*step.calls, call_of(as_object(action))))
    done = parsed(as_text(action))
    text = "\n".join(t for t in (step.text, done.text) if t)
    calls = (*step.calls, done.call) if done.call else step.calls
    if thought and not text and not calls:
        return replace(step, text=thought, thought="")
    return replace(step, text=text, thought=thought, calls=calls)
