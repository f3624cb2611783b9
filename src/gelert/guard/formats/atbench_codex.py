"""ATBench-Codex records: a conversation and a Codex rollout of the same run, woven into one.

Neither is complete: the conversation has the words, the rollout has the results. What both tell is told once, in the
rollout's form; a record with one of them is read from that one.
"""

from collections import defaultdict, deque
from collections.abc import Iterator

from gelert.core.trajectory import Role, Setting, Step
from gelert.guard.formats import agentdog
from gelert.guard.formats.codex import rollout
from gelert.guard.formats.labels import gold_of
from gelert.guard.formats.messages import named, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import as_list, as_object, came, first, text_at

_TOOLS = ("tools", "tool_used", "available_tools", "tool_metadata", "tool_definitions")


def detect(value: object) -> int:
    """95 for a ``codex_rollout`` beside whatever else."""
    return 95 if isinstance(as_object(value).get("codex_rollout"), list) else 0


def read(value: object) -> list[Run]:
    """The run, its setting Codex, with its labels."""
    record = as_object(value)
    lines, talk = as_list(record.get("codex_rollout")), as_list(record.get("conversation"))
    if not lines and not talk:
        raise Malformed(f"expected 'conversation' or 'codex_rollout', got {came(value)}; pass --format for another log")
    run = rollout(lines, "/codex_rollout")
    told = agentdog.read({"conversation": talk})[0].steps if talk else []
    run.steps = named(list(_woven(told, run.steps)))
    run.setting, run.gold = Setting.CODEX, gold_of(record)
    run.trajectory_id = text_at(record, "id") or run.trajectory_id
    run.tools = tool_specs(first(record, *_TOOLS))
    return [run]


def _woven(talk: list[Step], recorded: list[Step]) -> Iterator[Step]:
    """Both in order: each turn of the talk waits for the recorded steps up to the one that tells it again."""
    places: dict[object, deque[int]] = defaultdict(deque)
    for number, step in enumerate(recorded):
        places[_key(step)].append(number)
    done = 0
    for number, turn in enumerate(talk):
        found = places.get(_key(turn), deque[int]())
        while found and found[0] < done:
            found.popleft()
        if found:
            end = _answered(recorded, found[0] + 1)
            yield from recorded[done:end]
            done = end
            continue
        if number == len(talk) - 1 and turn.role == Role.AGENT:
            yield from recorded[done:]
            done = len(recorded)
        yield turn
    yield from recorded[done:]


def _answered(recorded: list[Step], end: int) -> int:
    while end < len(recorded) and recorded[end].role == Role.TOOL:
        end += 1
    return end


def _key(step: Step) -> object:
    """What makes two tellings one: the same calls, or the same words of the same speaker."""
    if step.calls:
        return tuple(call.name for call in step.calls)
    return (step.role, step.text.strip())
