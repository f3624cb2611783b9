"""Spans out of an OTLP JSON export or a flat list, their attributes as plain JSON."""

from dataclasses import dataclass

from gelert.guard.formats.untrusted import Object, as_list, as_object, first, json_value, objects, text_at


@dataclass(frozen=True, slots=True)
class Span:
    """One span of a trace."""

    attributes: Object
    pointer: str
    trace: str
    start: tuple[int, str]
    """Sorts by time; numbers by value, other texts by spelling."""
    stamp: str

    @property
    def conversation(self) -> str:
        """The conversation it belongs to, or an empty text."""
        return text_at(self.attributes, "gen_ai.conversation.id", "session.id")

    @property
    def operation(self) -> str:
        """``chat``, ``execute_tool``, ``invoke_agent`` or another."""
        return text_at(self.attributes, "gen_ai.operation.name")

    def messages(self, key: str) -> list[object]:
        """The messages under an attribute, which may be JSON text."""
        return as_list(json_value(self.attributes.get(key)))


def spans_of(value: object, root: str = "") -> list[Span]:
    """The spans of an export, of a ``spans`` list, or the one span that ``value`` is; ``root`` points at it."""
    record = as_object(value)
    exported = first(record, "resourceSpans", "resource_spans")
    if isinstance(exported, list):
        return _exported(exported, root)
    if isinstance(record.get("spans"), list):
        return [_span(span, f"{root}/spans/{n}") for n, span in enumerate(objects(record["spans"]))]
    return [_span(record, root)] if "attributes" in record else []


def _exported(resources: object, above: str) -> list[Span]:
    found: list[Span] = []
    for r, resource in enumerate(objects(resources)):
        for s, scope in enumerate(objects(first(resource, "scopeSpans", "scope_spans"))):
            root = f"{above}/resourceSpans/{r}/scopeSpans/{s}/spans"
            found += [_span(span, f"{root}/{n}") for n, span in enumerate(objects(scope.get("spans")))]
    return found


def _span(span: Object, pointer: str) -> Span:
    attributes = span.get("attributes")
    plain = as_object(attributes) or {text_at(a, "key"): _value(a.get("value")) for a in objects(attributes)}
    for event in objects(span.get("events")):
        inside = event.get("attributes")
        more = as_object(inside) or {text_at(a, "key"): _value(a.get("value")) for a in objects(inside)}
        plain = {**more, **plain} if any(key.startswith("gen_ai.") for key in more) else plain
    stamp = text_at(span, "startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime")
    trace = text_at(span, "traceId", "trace_id") or text_at(as_object(span.get("context")), "trace_id")
    start = (int(stamp), "") if stamp.isdecimal() and len(stamp) < 30 else (0, stamp)
    return Span(plain, pointer, trace, start, stamp)


def _value(value: object) -> object:
    """An OTLP AnyValue as plain JSON."""
    record = as_object(value)
    if "arrayValue" in record:
        return [_value(item) for item in as_list(as_object(record["arrayValue"]).get("values"))]
    if "kvlistValue" in record:
        return {
            text_at(p, "key"): _value(p.get("value")) for p in objects(as_object(record["kvlistValue"]).get("values"))
        }
    return first(record, "stringValue", "intValue", "doubleValue", "boolValue", "bytesValue") if record else value
