"""OpenAI Responses."""

import json

from gelert.guard.formats.items import kind_of
from gelert.guard.formats.untrusted import Object, as_object, objects, text_at
from gelert.serve.proxy.dialect import Refusal, openai_fault
from gelert.serve.proxy.events import frame

FORMAT = "responses"
_READ = ("instructions", "input", "tools", "model", "previous_response_id")
_WORDS = {"message", "agent_message", "reasoning"}
"""Kinds of items that call nothing."""

fault = openai_fault


def whole(events: list[Object]) -> Object:
    """The response whose events these are: every item that was done, and whatever was said of others."""
    response, listed = _heads(events)
    begun: dict[str, Object] = {}
    done: dict[str, list[Object]] = {}
    deltas: dict[str, list[Object]] = {}
    for event in events:
        kind, place = text_at(event, "type"), text_at(event, "output_index")
        item = as_object(event.get("item"))
        if kind == "response.output_item.done":
            done.setdefault(place, []).append(item)
        elif item:
            begun.setdefault(place, item)
        elif kind.endswith(".delta"):
            deltas.setdefault(place, []).append(event)
    output = [item for items in done.values() for item in items]
    for place in [*begun, *(place for place in deltas if place not in begun)]:
        item = _unfinished(begun.get(place, {}), deltas.get(place, []))
        output += [] if _within(item, done.get(place, [])) else [item]
    once = {json.dumps(item, sort_keys=True): item for item in [*output, *listed]}
    return {**response, "output": list(once.values())}


def records(request: Object, answer: Object) -> list[Object]:
    """The one conversation; an answer without items (an error) says nothing."""
    asked = {key: request[key] for key in _READ if key in request}
    output = [
        {**item, "role": "assistant"} if kind_of(item) == "message" else item for item in objects(answer.get("output"))
    ]
    return [{**asked, "output": output or [{"type": "message", "role": "assistant", "content": None}]}]


def calls(answer: Object) -> list[str]:
    """The name of every tool that an item calls; a kind of item that is not known counts as a call."""
    return [text_at(item, "name", "type") for item in objects(answer.get("output")) if kind_of(item) not in _WORDS]


def refused(refusal: Refusal) -> Object:
    """A completed response whose one item is the refusal."""
    return _response(refusal, "completed", [_item(refusal, "completed", [_part(refusal.text)])])


def refused_stream(refusal: Refusal) -> bytes:
    """The same as events, each with its number."""
    item = f"msg_{refusal.identity}"
    at: Object = {"item_id": item, "output_index": 0, "content_index": 0}
    done = refused(refusal)
    whole_item = _item(refusal, "completed", [_part(refusal.text)])
    found: list[Object] = [
        {"type": "response.created", "response": _response(refusal, "in_progress", [])},
        {"type": "response.in_progress", "response": _response(refusal, "in_progress", [])},
        {"type": "response.output_item.added", "output_index": 0, "item": _item(refusal, "in_progress", [])},
        {"type": "response.content_part.added", **at, "part": _part("")},
        {"type": "response.output_text.delta", **at, "delta": refusal.text, "logprobs": []},
        {"type": "response.output_text.done", **at, "text": refusal.text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": _part(refusal.text)},
        {"type": "response.output_item.done", "output_index": 0, "item": whole_item},
        {"type": "response.completed", "response": done},
    ]
    return b"".join(
        frame({**event, "sequence_number": number}, text_at(event, "type")) for number, event in enumerate(found)
    )


def _heads(events: list[Object]) -> tuple[Object, list[Object]]:
    """The response as the last event that holds one has it, and the items that any of them lists."""
    heads = [as_object(event["response"]) for event in events if event.get("response") is not None]
    return (heads[-1] if heads else {}), [item for head in heads for item in objects(head.get("output"))]


def _unfinished(begun: Object, deltas: list[Object]) -> Object:
    """An item as far as it came, all its text under the key that its kind has."""
    said = "".join(text_at(delta, "delta") for delta in deltas)
    kinds = {_kind(text_at(delta, "type")) for delta in deltas}
    kind = kind_of(begun)
    if kind == "reasoning" or (not kind and kinds == {"reasoning"}):
        return {**begun, "type": "reasoning", "text": said}
    if kind not in ("", *_WORDS) or "call" in kinds:
        before = text_at(begun, "arguments", "input")
        return {"type": "function_call", "name": "unfinished", **begun, "arguments": before + said}
    content = [*objects(begun.get("content")), _part(said)]
    return {**begun, "type": "message", "role": "assistant", "content": content}


def _kind(delta: str) -> str:
    """What a delta is of, by its event's name; one that is not known counts as a call's."""
    if "reasoning" in delta:
        return "reasoning"
    return "text" if any(word in delta for word in ("output_text", "refusal", "transcript")) else "call"


def _within(item: Object, done: list[Object]) -> bool:
    """Whether the finished items say all that the unfinished one says."""
    if not done:
        return False
    texts = [text_at(item, "arguments", "text"), *(text_at(part, "text") for part in objects(item.get("content")))]
    held = "\n".join(_texts(done))
    return all(text in held for text in texts)


def _texts(items: list[Object]) -> list[str]:
    found: list[str] = []
    for item in items:
        parts = [*objects(item.get("content")), *objects(item.get("summary"))]
        found += [text_at(item, "arguments", "input", "code"), text_at(item, "text")]
        found += [text_at(part, "text", "refusal", "transcript") for part in parts]
    return found


def _part(text: str) -> Object:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(refusal: Refusal, status: str, content: list[Object]) -> Object:
    head: Object = {"type": "message", "id": f"msg_{refusal.identity}", "role": "assistant"}
    return {**head, "status": status, "content": content}


def _response(refusal: Refusal, status: str, output: list[Object]) -> Object:
    return {
        "id": f"resp_{refusal.identity}",
        "object": "response",
        "created_at": refusal.seconds,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": refusal.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(refusal) if status == "completed" else None,
    }


def _usage(refusal: Refusal) -> Object:
    nothing: Object = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    return {**nothing, **refusal.usage}
