"""The service in front of a LangChain agent.

::

    create_agent(model, tools, middleware=[GelertMiddleware(Client()), ...], checkpointer=...)

First in the list is outermost: it judges the call as the others leave it to be seen, and their results. All calls of a
turn are judged together, so that none hides behind another. Where the policy asks a person, the run is interrupted as
LangChain's own middleware does it for one call, which needs a checkpointer; it is resumed with
``Command(resume={"type": "approve"})``, and anything else means no.

No stream of messages shows a reply before it is judged; callbacks of the program's own hear the model as ever, and so
does a stream where a middleware further in calls another model. Words that the model says beside a call are judged
with the call, when a stream has shown them.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# LangChain is an extra: where it is not installed, what it gives has no types.

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, NotRequired

from gelert.core.decision import Allow, Ask, Block, Decision
from gelert.core.errors import missing_extra
from gelert.guard.formats.untrusted import Object
from gelert.guard.policy import Surface
from gelert.serve.sdk.client import Client, Question, refusal

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        ToolCallRequest,
    )
    from langchain.agents.middleware.types import PrivateStateAttr
    from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from langgraph.constants import TAG_NOSTREAM
    from langgraph.types import Command, interrupt
except ModuleNotFoundError:
    raise missing_extra("gelert.serve.sdk.langchain_middleware", "langchain") from None

Result = Any
"""A message of a tool, a command with some, or a list of both."""

_UNSEEN = {"id", "artifact", "response_metadata", "usage_metadata"}
"""Parts of a message that no model reads."""


class GelertState(AgentState[Any]):
    """What the middleware keeps of a model's call for those of its tools."""

    gelert_system: NotRequired[Annotated[str, PrivateStateAttr]]  # pyright: ignore[reportInvalidTypeForm] -- the base is a TypedDict


class GelertMiddleware(AgentMiddleware[GelertState]):
    """Holds tool calls before they run, their results before the model reads them, and replies before they are given.

    Args:
        client: asks the service.
    """

    state_schema = GelertState

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Let the model answer; a reply is given if it may be."""
        response = handler(_held(request))
        question = _reply(request, response)
        return _given(request, response, self._client.ask_blocking(question) if question else Allow())

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ExtendedModelResponse[Any]:
        """The same in a coroutine."""
        response = await handler(_held(request))
        question = _reply(request, response)
        return _given(request, response, await self._client.ask(question) if question else Allow())

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Run the tool if it may run; its result is given if it may be read."""
        if refused := _refused(request, self._client.ask_blocking(_call(request))):
            return refused
        result = handler(request)
        return _read(request, result, self._client.ask_blocking(_result(request, result)))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """The same in a coroutine."""
        if refused := _refused(request, await self._client.ask(_call(request))):
            return refused
        result = await handler(request)
        return _read(request, result, await self._client.ask(_result(request, result)))


def _held(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request to a model whose words no stream shows until its node is done."""
    model = request.model
    return request.override(model=model.model_copy(update={"tags": [*(model.tags or []), TAG_NOSTREAM]}))


def _reply(request: ModelRequest[Any], response: ModelResponse[Any]) -> Question | None:
    """What is asked about an answer of the model; nothing where tools, which ask themselves, are still to run."""
    done = {one.tool_call_id for one in response.result if isinstance(one, ToolMessage)}
    said = [one for one in response.result if isinstance(one, AIMessage)]
    if any(call["id"] not in done for one in said for call in one.tool_calls):
        return None
    return _question(Surface.REPLY, request.system_prompt or "", request.tools, [*request.messages, *said])


def _given(request: ModelRequest[Any], response: ModelResponse[Any], decision: Decision) -> ExtendedModelResponse[Any]:
    """The answer, or why it is withheld; and what the tools' questions will need."""
    if not isinstance(decision, Allow):
        response = ModelResponse([AIMessage(refusal(decision, Surface.REPLY))])
    return ExtendedModelResponse(response, Command(update={"gelert_system": request.system_prompt or ""}))


def _call(request: ToolCallRequest) -> Question:
    """What is asked before a tool runs."""
    return _question(Surface.TOOL_CALL, _system(request), request.runtime.tools, _turn(request))


def _result(request: ToolCallRequest, result: Result) -> Question:
    """What is asked before the model reads a result."""
    messages = _turn(request)
    for one in result if isinstance(result, list) else [result]:
        update = one.update if isinstance(one, Command) else {"messages": [one]}
        messages += update.get("messages", []) if isinstance(update, dict) else []
    return _question(Surface.TOOL_RESULT, _system(request), request.runtime.tools, messages)


def _system(request: ToolCallRequest) -> str:
    return request.state.get("gelert_system", "")


def _turn(request: ToolCallRequest) -> list[BaseMessage]:
    """Everything up to the turn that makes the call, with the call as it will be run."""
    call, messages = request.tool_call, request.state["messages"]
    for place, one in reversed(list(enumerate(messages))):  # a model may give an id that an earlier turn had
        if isinstance(one, AIMessage) and any(own["id"] == call["id"] for own in one.tool_calls):
            calls = [call if own["id"] == call["id"] else own for own in one.tool_calls]
            return [*messages[:place], one.model_copy(update={"tool_calls": calls})]
    return [*messages, AIMessage("", tool_calls=[call])]


def _question(surface: Surface, system: str, tools: Sequence[Any], messages: Sequence[BaseMessage]) -> Question:
    told = [SystemMessage(system), *messages] if system else messages
    run: Object = {
        "messages": [one.model_dump(mode="json", exclude=_UNSEEN) for one in told],
        "tools": [convert_to_openai_tool(tool) for tool in tools],
    }
    return Question(surface, run, "langchain", "langchain", session=messages[0].id or "")


def _refused(request: ToolCallRequest, decision: Decision) -> ToolMessage | None:
    """What the model reads in place of a call that may not be run; a person is asked first where the policy asks."""
    match decision:
        case Allow():
            return None
        case Ask(reason) if _approved(request, reason):
            return None
        case Ask(reason, degraded):
            decision = Block(f"a person said no ({reason})", degraded)
        case Block():
            pass
    return _withheld(request, decision, Surface.TOOL_CALL)


def _approved(request: ToolCallRequest, reason: str) -> bool:
    """Whether a person says that the call may run: the first time this ends the run until they have answered."""
    call = request.tool_call
    asked = {"type": "tool_approval", "tool_call_id": call["id"], "name": call["name"], "args": call["args"]}
    return interrupt({**asked, "description": f"gelert: {reason}"}) == {"type": "approve"}


def _read(request: ToolCallRequest, result: Result, decision: Decision) -> Result:
    return result if isinstance(decision, Allow) else _withheld(request, decision, Surface.TOOL_RESULT)


def _withheld(request: ToolCallRequest, decision: Ask | Block, surface: Surface) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(refusal(decision, surface), name=call["name"], tool_call_id=call["id"], status="error")
