"""Anthropic Messages."""

from gelert.guard.formats.untrusted import Object, as_object, objects, text_at
from gelert.serve.proxy.dialect import Refusal
from gelert.serve.proxy.events import frame
from gelert.serve.proxy.folding import folded

FORMAT = "anthropic"
_READ = ("system", "messages", "tools", "model")
_WORDS = {"text", "thinking", "redacted_thinking"}
"""Kinds of blocks that call nothing."""


def whole(events: list[Object]) -> Object:
    """The message whose events these are."""
    message: Object = {}
    blocks: list[list[Object]] = []
    latest: dict[str, int] = {}
    ends: list[Object] = []
    for event in events:
        index = text_at(event, "index")
        match event.get("type"):
            case "message_start":
                message = as_object(event.get("message"))
                blocks += [[block] for block in objects(message.get("content"))]
            case "content_block_start":
                latest[index] = len(blocks)
                blocks.append([as_object(event.get("content_block"))])
            case "content_block_delta":
                if index not in latest:
                    latest[index] = len(blocks)
                    blocks.append([{"type": "text"}])
                delta = as_object(event.get("delta"))
                blocks[latest[index]].append({key: value for key, value in delta.items() if key != "type"})
            case _:
                ends.append({"usage": event.get("usage")})
    usage = {**as_object(message.get("usage")), **as_object(folded(ends).get("usage"))}
    return {**message, "content": [_block(pieces) for pieces in blocks], "usage": usage}


def records(request: Object, answer: Object) -> list[Object]:
    """The one conversation."""
    asked = {key: request[key] for key in _READ if key in request}
    return [{**asked, "response": {"role": "assistant", "content": answer.get("content")}}]


def calls(answer: Object) -> list[str]:
    """The name of every tool that a block calls; a kind of block that is not known counts as a call."""
    blocks = objects(answer.get("content"))
    return [text_at(block, "name", "type") for block in blocks if text_at(block, "type") not in _WORDS]


def refused(refusal: Refusal) -> Object:
    """A message whose one block is the refusal."""
    return _message(refusal, [{"type": "text", "text": refusal.text}], "end_turn")


def refused_stream(refusal: Refusal) -> bytes:
    """The same as events."""
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    found: list[Object] = [
        {"type": "message_start", "message": _message(refusal, [], None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": refusal.text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": _usage(refusal)},
        {"type": "message_stop"},
    ]
    return b"".join(frame(event, text_at(event, "type")) for event in found)


def fault(reason: str) -> Object:
    """An error in Anthropic's shape."""
    return {"type": "error", "error": {"type": "api_error", "message": reason}}


def _message(refusal: Refusal, content: list[Object], stop: str | None) -> Object:
    return {
        "id": f"msg_{refusal.identity}",
        "type": "message",
        "role": "assistant",
        "model": refusal.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": _usage(refusal),
    }


def _usage(refusal: Refusal) -> Object:
    return {"input_tokens": 0, "output_tokens": 0, **refusal.usage}


def _block(pieces: list[Object]) -> Object:
    """A call's input comes as pieces of JSON text, which readers take as it is."""
    block = folded(pieces)
    if text := text_at(block, "partial_json"):
        before = text_at(block, "input")
        block["input"] = text if before in ("", "{}") else before + text
    return block
