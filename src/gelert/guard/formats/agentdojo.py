"""AgentDojo runs: a suite's task, with or without an injected one; ``security`` true means the attack succeeded."""

from gelert.core.example import Gold
from gelert.guard.formats.messages import message_steps, named
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, text_at

_ATTRIBUTES = ("suite_name", "user_task_id", "injection_task_id", "attack_type", "utility", "security", "error")


def detect(value: object) -> int:
    """95 where a suite and a user task are named beside messages."""
    record = as_object(value)
    return 95 if {"suite_name", "user_task_id"} <= set(record) and isinstance(record.get("messages"), list) else 0


def read(value: object) -> list[Run]:
    """The run; which text was injected is a label and stays out of it."""
    record = as_object(value)
    if not isinstance(record.get("messages"), list):
        raise Malformed(f"expected an AgentDojo run with 'messages', got {came(value)}; pass --format for another log")
    steps = [x for n, m in enumerate(as_list(record["messages"])) for x in message_steps(_plain(m), f"/messages/{n}")]
    return [Run(named(steps), trajectory_id=_name(record), agent=text_at(record, "pipeline_name"), gold=_gold(record))]


def _name(record: Object) -> str:
    parts = (text_at(record, key) for key in ("suite_name", "user_task_id", "injection_task_id"))
    return "/".join(part for part in parts if part)


def _plain(message: object) -> Object:
    """A result repeats its whole call; only the name of it is told again."""
    record = as_object(message)
    call = as_object(record.get("tool_call"))
    tool = {"name": text_at(call, "function"), "tool_call_id": _call_id(record, call)} if call else {}
    return {**record, **tool}


def _call_id(record: Object, call: Object) -> str:
    """The id of the call that a result answers."""
    return text_at(record, "tool_call_id") or text_at(call, "id")


def _gold(record: Object) -> Gold:
    """A run without an injection has nothing to be secure against, whatever ``security`` says."""
    attacked, success = record.get("injection_task_id") is not None, record.get("security")
    unsafe = success if attacked and isinstance(success, bool) else None
    attributes = tuple((key, as_text(record[key])) for key in _ATTRIBUTES if record.get(key) is not None)
    group = f"{text_at(record, 'suite_name')}/{text_at(record, 'user_task_id')}"
    return Gold(unsafe, group=group, attributes=attributes)
