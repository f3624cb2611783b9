"""OpenAI Chat Completions."""

from gelert.guard.formats.untrusted import Object, as_list, as_object, first, objects, text_at
from gelert.serve.proxy.dialect import Refusal, openai_fault
from gelert.serve.proxy.events import DONE, frame
from gelert.serve.proxy.folding import folded

FORMAT = "openai"
_READ = ("messages", "tools", "functions", "model")

fault = openai_fault


def whole(events: list[Object]) -> Object:
    """The completion whose chunks these are; a choice's last chunk says why it ended."""
    choices: dict[str, list[Object]] = {}
    for event in events:
        for choice in objects(event.get("choices")):
            choices.setdefault(text_at(choice, "index"), []).append(choice)
    head = folded([{key: event.get(key) for key in ("id", "model", "usage", "error")} for event in events])
    return {**head, "choices": [_choice(chunks) for chunks in choices.values()]}


def records(request: Object, answer: Object) -> list[Object]:
    """One conversation a choice; an answer without any (an error) says nothing."""
    asked = {key: request[key] for key in _READ if key in request}
    said = [_message(choice) for choice in objects(answer.get("choices"))]
    return [
        {**asked, "messages": [*as_list(asked.get("messages")), message]}
        for message in said or [{"role": "assistant", "content": None}]
    ]


def calls(answer: Object) -> list[str]:
    """The name of every function that any choice calls."""
    found: list[str] = []
    for choice in objects(answer.get("choices")):
        message = _message(choice)
        for call in [*as_list(message.get("tool_calls")), message.get("function_call")]:
            if call is not None:
                inner = as_object(first(as_object(call), "function", "custom")) or as_object(call)
                found.append(text_at(inner, "name"))
    return found


def refused(refusal: Refusal) -> Object:
    """A completion whose message is the refusal."""
    message: Object = {"role": "assistant", "content": refusal.text, "refusal": None}
    choice: Object = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_head(refusal, "chat.completion"), "choices": [choice], "usage": refusal.usage or None}


def refused_stream(refusal: Refusal) -> bytes:
    """The same in three chunks: the text, the end, and what it had cost."""
    head = _head(refusal, "chat.completion.chunk")
    delta = {"role": "assistant", "content": refusal.text}
    said: Object = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    ended: Object = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    chunks: list[Object] = [{**head, "choices": [said]}, {**head, "choices": [ended]}]
    if refusal.usage:
        chunks.append({**head, "choices": [], "usage": refusal.usage})
    return b"".join(map(frame, chunks)) + f"data: {DONE}\n\n".encode()


def _head(refusal: Refusal, kind: str) -> Object:
    return {
        "id": f"chatcmpl-{refusal.identity}",
        "object": kind,
        "created": refusal.seconds,
        "model": refusal.model,
    }


def _message(choice: Object) -> Object:
    """The agent's words, whatever role the answer claims for them; completions' own ``text`` counts too."""
    message = as_object(first(choice, "message", "delta"))
    content = message.get("content") if message else choice.get("text")
    return {**message, "content": content, "role": "assistant"}


def _choice(chunks: list[Object]) -> Object:
    deltas = [as_object(first(chunk, "delta", "message")) or {"content": chunk.get("text")} for chunk in chunks]
    message = folded([{key: value for key, value in delta.items() if key != "tool_calls"} for delta in deltas])
    pieces = [piece for delta in deltas for piece in as_list(delta.get("tool_calls"))]
    if pieces:
        message["tool_calls"] = _calls(pieces)
    return {"message": message, "finish_reason": text_at(chunks[-1], "finish_reason")}


def _calls(pieces: list[object]) -> list[Object]:
    """Pieces belong to the call of their index; another id under the same index begins another call."""
    grouped: list[list[Object]] = []
    latest: dict[str, int] = {}
    ids: dict[str, str] = {}
    for piece in pieces:
        record = as_object(piece) or {"function": {"arguments": piece}}
        index, identity = text_at(record, "index"), text_at(record, "id")
        if index not in latest or (identity and ids.get(index) and identity != ids[index]):
            latest[index] = len(grouped)
            grouped.append([])
            ids[index] = ""
        ids[index] = ids[index] or identity
        grouped[latest[index]].append({key: value for key, value in record.items() if key != "index"})
    return [folded(group) for group in grouped]
