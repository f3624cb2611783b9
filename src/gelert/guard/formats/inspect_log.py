"""Inspect logs as JSON: one run for each sample, from its messages.

Scores are labels and stay out. A ``.eval`` archive is taken apart by ``archive``.
"""

from gelert.core.example import Gold
from gelert.core.trajectory import ToolSpec
from gelert.guard.formats.messages import message_steps, named, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, first, objects, text_at


def detect(value: object) -> int:
    """100 for a log, 95 for one sample of it."""
    record = as_object(value)
    if isinstance(record.get("eval"), dict) and ("samples" in record or "status" in record):
        return 100
    sample = {"epoch", "messages", "target"} <= set(record) and isinstance(record.get("messages"), list)
    return 95 if sample else 0


def read(value: object) -> list[Run]:
    """The runs of a log's samples.

    Raises:
        Malformed: it is no log, or one without samples.
    """
    record = as_object(value)
    header = as_object(record.get("eval"))
    samples = [record] if "messages" in record else objects(record.get("samples"))
    if not samples:
        raise Malformed(f"expected an Inspect log with samples, got {came(value)}; a header alone has none")
    root = "" if "messages" in record else "/samples"
    return [_sample(s, header, f"{root}/{n}" if root else "") for n, s in enumerate(samples)]


def _sample(sample: Object, header: Object, root: str) -> Run:
    messages = sample.get("messages")
    steps = [x for n, m in enumerate(as_list(messages)) for x in message_steps(m, f"{root}/messages/{n}")]
    identity = text_at(sample, "id")
    name = "-".join(part for part in (identity, text_at(sample, "epoch")) if part)
    scores = {key: as_object(score).get("value") for key, score in as_object(sample.get("scores")).items()}
    kept = tuple((key, as_text(score)) for key, score in scores.items())
    model = text_at(header, "model") or text_at(as_object(sample.get("output")), "model")
    return Run(named(steps), _tools(sample), name, model, gold=Gold(group=identity, attributes=kept))


def _tools(sample: Object) -> tuple[ToolSpec, ...]:
    """The tools of the last model event that names any."""
    events = [event for event in objects(sample.get("events")) if event.get("event") == "model"]
    return next((tool_specs(event["tools"]) for event in reversed(events) if first(event, "tools")), ())
