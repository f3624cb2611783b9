"""The items of the OpenAI Agents SDK: which are calls and fresh results, and those that say what is withheld."""

# pyright: reportMissingImports=false
# The SDK is an extra: where it is not installed, what it gives has no types.

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from agents import FunctionTool, ModelResponse
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputMessage,
    ResponseOutputRefusal,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseUsage,
)

from gelert.guard.formats.untrusted import Object, text_at

TELLING = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
"""Calls of which the model can be told in words that they were not run, and the item that tells it."""

LOCAL = {*TELLING, "apply_patch_call", "computer_call", "local_shell_call", "mcp_approval_request", "shell_call"}
"""What the SDK itself acts on; the other calls were run by the model's provider before it answered."""


def specs(tools: Sequence[Any], handoffs: Sequence[Any]) -> list[Object]:
    """What the model is offered."""
    own = [(one.name, one.description, one.params_json_schema) for one in tools if isinstance(one, FunctionTool)]
    own += [(one.name, "", {}) for one in tools if not isinstance(one, FunctionTool)]
    own += [(one.tool_name, one.tool_description, one.input_json_schema) for one in handoffs]
    return [{"type": "function", "name": name, "description": said, "parameters": form} for name, said, form in own]


def is_result(item: Object) -> bool:
    """Whether the item is what a call gave back."""
    return text_at(item, "type").endswith("_output")


def fresh(items: Sequence[Object]) -> list[Object]:
    """The results that have come since the model spoke last."""
    found: list[Object] = []
    for one in reversed(items):
        if is_result(one):
            found.append(one)
        elif text_at(one, "role") not in ("user", "system", "developer"):
            break
    return found


def notice(text: str) -> ResponseOutputMessage:
    """A message of the agent that says what it was not allowed to do."""
    return _message(ResponseOutputText(type="output_text", text=text, annotations=[]))


def refused(text: str) -> ResponseOutputMessage:
    """A refusal to answer."""
    return _message(ResponseOutputRefusal(type="refusal", refusal=text))


def events(response: ModelResponse) -> Iterator[ResponseTextDeltaEvent | ResponseCompletedEvent]:
    """The response as a stream."""
    for place, one in enumerate(response.output):
        for index, part in enumerate(one.content if isinstance(one, ResponseOutputMessage) else []):
            if isinstance(part, ResponseOutputText):
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta",
                    item_id=one.id or "",
                    output_index=place,
                    content_index=index,
                    delta=part.text,
                    logprobs=[],
                    sequence_number=place,
                )
    last = len(response.output)
    yield ResponseCompletedEvent(type="response.completed", response=_whole(response), sequence_number=last)


def _message(part: ResponseOutputText | ResponseOutputRefusal) -> ResponseOutputMessage:
    name = f"msg_{uuid4().hex}"
    return ResponseOutputMessage(id=name, type="message", role="assistant", status="completed", content=[part])


def _whole(response: ModelResponse) -> Response:
    usage = response.usage
    return Response(
        id=response.response_id or "",
        created_at=0,
        model="",
        object="response",
        output=response.output,
        parallel_tool_calls=True,
        tool_choice="auto",
        tools=[],
        usage=ResponseUsage(
            input_tokens=usage.input_tokens,
            input_tokens_details=usage.input_tokens_details,
            output_tokens=usage.output_tokens,
            output_tokens_details=usage.output_tokens_details,
            total_tokens=usage.total_tokens,
        ),
    )
