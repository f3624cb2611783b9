"""The content of a message as text: plain, or a list of parts of which those without text become visible markers."""

from gelert.core.trajectory import json_text
from gelert.guard.formats.untrusted import Object, as_object, as_text, first, text_at

TEXT_KINDS = {"text", "Text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal"}
THOUGHT_KINDS = {"thinking", "reasoning", "redacted_thinking"}
CALL_KINDS = {"tool_use", "toolCall", "tool_call", "server_tool_use", "mcp_tool_use", "function_call"}
RESULT_KINDS = {"tool_result", "toolResult", "tool_call_response", "mcp_tool_result"}
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "file": "file",
    "input_file": "file",
    "document": "document",
    "blob": "blob",
}
_SOURCES = ("source", "image_url", "input_audio", "file", "file_url")


def text_of(content: object) -> str:
    """All that a message's content says; parts stand on lines of their own."""
    if isinstance(content, list):
        return "\n".join(part_text(part) for part in content)
    return part_text(content)


def part_text(part: object) -> str:
    """What one part says, or a marker for what it shows."""
    if not isinstance(part, dict):
        return as_text(part)
    record = as_object(part)
    kind = text_at(record, "type")
    value = first(record, "text", "content", "refusal")
    if kind in TEXT_KINDS and value is not None:
        return as_text(as_object(value).get("value", value) if isinstance(value, dict) else value)
    if kind in THOUGHT_KINDS:
        return thought_text(record)
    if kind in _MEDIA:
        return _media(record, _MEDIA[kind])
    if not kind and isinstance(record.get("text"), str):
        return as_text(record["text"])
    return f"[{kind or 'object'} {json_text(record)}]"


def thought_text(part: Object) -> str:
    """What a reasoning part says; encrypted reasoning leaves a marker."""
    value = first(part, "thinking", "reasoning", "text", "content", "summary")
    if value is not None:
        return text_of(value)
    return "[encrypted reasoning]" if set(part) & {"data", "signature", "encrypted_content"} else ""


def _media(part: Object, kind: str) -> str:
    """``[image image/png name]``: the type and the name or address, never the bytes; text documents in full."""
    source = as_object(first(part, *_SOURCES))
    if source.get("type") in ("text", "content"):
        return f"[{kind}]\n{text_of(first(source, 'data', 'content'))}"
    merged = {**part, **source}
    media_type = text_at(merged, "media_type", "mime_type", "mimeType", "format")
    address = next((as_text(part[key]) for key in ("image_url", "url", "image") if isinstance(part.get(key), str)), "")
    words = [media_type, text_at(merged, "title", "name", "filename", "path"), text_at(merged, "url") or address]
    words += [text_at(merged, "detail", "alt", "context", "file_id")]
    if words[2].startswith("data:"):
        words[2] = words[2][5:].split(";", 1)[0].split(",", 1)[0]
    seen = [word for word in dict.fromkeys(words) if word]
    return f"[{' '.join([kind, *seen])}]"
