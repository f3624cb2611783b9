"""tau-bench results (``traj``, ``reward``) and AgentRx, which publishes failed runs in the same form."""

from gelert.core.example import Gold
from gelert.guard.formats.messages import message_steps, named
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, sampled, text_at


def detect(value: object) -> int:
    """90 for ``traj``, 95 for AgentRx's labels, which are refused by name."""
    record = as_object(value)
    if _labels(value):
        return 95
    return 90 if isinstance(record.get("traj"), list) else 0


def read(value: object) -> list[Run]:
    """The run. Reward 1 is benign; reward 0 is a failure, which says nothing of safety."""
    record = as_object(value)
    if labels := _labels(value):
        raise Malformed(
            f"expected runs, got labels, not trajectories (AgentRx 'failures' and 'root_cause' of {labels});"
            " judge the file of runs and join the labels by task_id"
        )
    if not isinstance(record.get("traj"), list):
        raise Malformed(f"expected 'traj', a list of chat messages, got {came(value)}; pass --format for another log")
    steps = [x for n, m in enumerate(as_list(record["traj"])) for x in message_steps(m, f"/traj/{n}")]
    return [Run(named(steps), trajectory_id=_name(record), gold=_gold(record))]


def _labels(value: object) -> str:
    """Which runs the labels in ``value`` speak of, if it is labels only."""
    found = sampled(value, 1_000_000) if isinstance(value, list) else [as_object(value)]
    only = all({"trajectory_id", "failures", "root_cause"} <= set(label) and "traj" not in label for label in found)
    return f"{len(found)} runs" if found and only else ""


def _name(record: Object) -> str:
    task, trial = text_at(record, "task_id"), text_at(record, "trial")
    return f"{task}-{trial}" if task and trial else task


def _gold(record: Object) -> Gold | None:
    reward, task = record.get("reward"), text_at(record, "task_id")
    if reward is None and not task:
        return None
    benign = isinstance(reward, (int, float)) and reward == 1
    attributes = (("reward", as_text(reward)),) if reward is not None else ()
    return Gold(False if benign else None, group=task, attributes=attributes)
