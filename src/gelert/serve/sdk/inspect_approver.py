"""The service in front of an agent that Inspect evaluates, so that any task can be run guarded.

::

    inspect eval task.py --approval gelert/guard

and, for the reply, ``Task(solver=[generate(), reply_gate()], ...)``. All calls of a
turn are judged together, so that none hides behind another. Where the policy asks a person, the call is escalated to
the next approver, such as Inspect's ``human``; Inspect itself rejects what none takes. What tools gave back is judged
with the next call or reply: a reviewer of Inspect's could only end the sample for it.
"""

# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
# Inspect is an extra: where it is not installed, what it gives has no types.

from collections.abc import Sequence

from gelert.core.decision import Allow, Ask, Block
from gelert.core.errors import missing_extra
from gelert.guard.policy import Surface
from gelert.serve.sdk.client import Client, Question, refusal

try:
    from inspect_ai.approval import Approval, Approver, approver
    from inspect_ai.model import ChatMessage, ChatMessageAssistant
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.tool import ToolCall, ToolCallView
except ModuleNotFoundError:
    raise missing_extra("gelert.serve.sdk.inspect_approver", "inspect") from None


@approver
def guard(url: str = "", project: str = "") -> Approver:
    """Lets a call run if the service allows it.

    Args:
        url: where the service listens; empty asks over its Unix socket. Its token is the one kept on this machine:
            what is given here stands in the log.
        project: the folder that the agent works in.
    """
    client = Client(url, project=project)

    async def approve(message: str, call: ToolCall, view: ToolCallView, history: list[ChatMessage]) -> Approval:  # noqa: ARG001 -- Inspect passes it by name
        decision = await client.ask(_question(Surface.TOOL_CALL, _turn(message, call, history)))
        match decision:
            case Allow():
                return Approval(decision="approve", explanation="degraded" if decision.degraded else None)
            case Ask():
                return Approval(decision="escalate", explanation=decision.reason)
            case Block():
                return Approval(decision="reject", explanation=refusal(decision, Surface.TOOL_CALL))

    return approve


@solver
def reply_gate(url: str = "", project: str = "") -> Solver:
    """Stands behind the agent's solver and withholds a reply that may not be given.

    Args:
        url: as for ``guard``.
        project: as for ``guard``.
    """
    client = Client(url, project=project)

    async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001 -- Inspect passes it by name
        decision = await client.ask(_question(Surface.REPLY, state.messages))
        if not isinstance(decision, Allow):
            said = refusal(decision, Surface.REPLY)
            state.messages[-1] = ChatMessageAssistant(content=said)
            state.output.completion = said
        return state

    return solve


def _turn(message: str, call: ToolCall, history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Everything up to the turn that makes the call, with the call as it will be run."""
    for place, one in reversed(list(enumerate(history))):  # a model may give an id that an earlier turn had
        own = one.tool_calls or [] if isinstance(one, ChatMessageAssistant) else []
        if any(made.id == call.id for made in own):
            calls = [call if made.id == call.id else made for made in own]
            return [*history[:place], one.model_copy(update={"tool_calls": calls})]
    return [*history, ChatMessageAssistant(content=message, tool_calls=[call])]


def _question(surface: Surface, messages: Sequence[ChatMessage]) -> Question:
    told = [one.model_dump(mode="json", exclude={"id", "metadata"}, exclude_none=True) for one in messages]
    return Question(surface, {"messages": told}, "inspect", "inspect", session=messages[0].id or "")
