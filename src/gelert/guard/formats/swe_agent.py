"""SWE-agent ``.traj`` files: ``history`` as the model saw it, and ``trajectory`` of actions and observations.

The history has the system prompt, the task and the demonstrations; history processors may shorten its observations, and
it lacks the last one. So the history is read, and whatever a trajectory's step says beyond it is added in its place.
"""

from gelert.core.trajectory import Provenance, Role, Step, ToolCall
from gelert.guard.formats.messages import message_steps, named
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, sampled, text_at


def detect(value: object) -> int:
    """90 for steps of action and observation, or a history whose messages bear SWE-agent's marks."""
    record = as_object(value)
    steps, history = sampled(record.get("trajectory")), sampled(record.get("history"))
    if steps and all("action" in step and "observation" in step and "source" not in step for step in steps):
        return 90
    return 90 if history and all("role" in turn and "agent" in turn for turn in history) else 0


def read(value: object) -> list[Run]:
    """The run."""
    record = as_object(value)
    told, done = record.get("history"), record.get("trajectory")
    if not isinstance(told, list) and not isinstance(done, list):
        raise Malformed(f"expected 'trajectory' and 'history' of a .traj file, got {came(value)}; pass --format if not")
    history = [step for n, turn in enumerate(as_list(told)) for step in _turn(as_object(turn), f"/history/{n}")]
    steps = _woven(history, [as_object(step) for step in as_list(done)])
    return [Run(named(steps), trajectory_id=text_at(record, "instance_id", "environment"), agent="swe-agent")]


def _turn(turn: Object, pointer: str) -> list[Step]:
    steps = message_steps({**turn, "thought": None}, pointer)
    kind = text_at(turn, "message_type")
    if turn.get("is_demo") is True or kind == "demonstration":
        return [Step(Role.RUNTIME, s.text, provenance=s.provenance) for s in steps]
    if text_at(turn, "role") == "assistant":
        return [_agent(turn, steps[0])]
    return steps


def _agent(turn: Object, step: Step) -> Step:
    action = as_text(turn.get("action"))
    thought = text_at(turn, "thought")
    calls = step.calls or ((ToolCall("bash", action),) if action else ())
    rest = step.text if step.text.strip() != thought.strip() else ""
    return Step(Role.AGENT, rest, thought, calls, provenance=step.provenance)


def _woven(history: list[Step], done: list[Object]) -> list[Step]:
    """The history with its replies to the agent as results, completed from the trajectory."""
    steps: list[Step] = []
    turn = -1
    for place, step in enumerate(history):
        after_agent = bool(steps) and steps[-1].role == Role.AGENT
        if step.role == Role.AGENT:
            turn += 1
        reply = after_agent and step.role in (Role.USER, Role.RUNTIME) and bool(steps[-1].calls)
        steps.append(_result(step.text, step.provenance) if reply else step)
        last = place + 1 == len(history)
        if last or history[place + 1].role == Role.AGENT:
            steps += _missing(done, turn, steps[-1]) if turn >= 0 else []
    for number in range(turn + 1, len(done)):
        steps += _whole(done[number], number)
    return steps


def _missing(done: list[Object], turn: int, last: Step) -> list[Step]:
    """The observation of a turn, if the history shortened it or never got it."""
    observation = text_at(done[turn], "observation") if turn < len(done) else ""
    if not observation.strip() or observation.strip() in last.text:
        return []
    return [_result(observation, Provenance(f"/trajectory/{turn}/observation", "observation"))]


def _whole(step: Object, number: int) -> list[Step]:
    pointer, action = f"/trajectory/{number}", text_at(step, "action")
    response, thought = text_at(step, "response"), text_at(step, "thought")
    text = "" if response.strip() == thought.strip() else response
    calls = (ToolCall("bash", action),) if action else ()
    agent = Step(Role.AGENT, text, thought, calls, provenance=Provenance(pointer, "action"))
    return [agent, _result(text_at(step, "observation"), Provenance(f"{pointer}/observation", "observation"))]


def _result(text: str, provenance: Provenance) -> Step:
    return Step(Role.TOOL, text, provenance=provenance)
