"""The service in front of an agent of the OpenAI Agents SDK.

::

    Runner.run(agent, "...", run_config=RunConfig(model_provider=GuardedProvider(MultiProvider(), Client())))

The SDK has guardrails for single tools and for an agent's output. They see neither the conversation nor the calls of
every kind of tool, and an output guardrail speaks when a stream has been read. The model is where everything passes,
so it is the model that is guarded: its answer is judged before the SDK acts on it or streams it, and what tools gave
back before the model reads it. An agent that holds a model, not its name, needs ``GuardedModel`` itself.

A call that may not run never reaches the SDK. The model is told why and answers anew; the agent's next turns know of it
by a message. An answer that may not be given is the SDK's own refusal: the run ends in ``ModelRefusalError``, or as
its handler for ``model_refusal`` says. What the SDK gives out without asking the model again, such as the result of a
tool at which it stops, is not seen here.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The SDK is an extra: where it is not installed, what it gives has no types.

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from gelert.core.decision import Allow, Block
from gelert.core.errors import missing_extra
from gelert.core.records import digest
from gelert.guard.formats.untrusted import Object, text_at
from gelert.guard.policy import Surface
from gelert.serve.sdk.client import Client, Question, refusal

try:
    from agents import ItemHelpers, Model, ModelProvider, ModelResponse, Usage

    from gelert.serve.sdk.openai_items import LOCAL, TELLING, events, fresh, is_result, notice, refused, specs
except ModuleNotFoundError:
    raise missing_extra("gelert.serve.sdk.openai_agents", "openai-agents") from None

MOST_ANSWERS = 3
"""Of the model in one turn, if the calls of those before may not run."""

MOST_WITHHELD = 1_000
"""Results that are remembered as withheld. An older one is shown again, to the guard as well as to the model."""

PARTIAL = Block("expected the whole conversation, got a part of one that a server keeps; use a session", degraded=True)

Withheld = OrderedDict[str, str]
"""What the model reads in place of a result, by the result's digest."""


class GuardedModel(Model):
    """A model whose answers, and the results that it reads, pass the service.

    Args:
        model: answers.
        client: asks the service.
        withheld: of all models of one provider.
    """

    def __init__(self, model: Model, client: Client, withheld: Withheld | None = None) -> None:
        self._model, self._client = model, client
        self._withheld: Withheld = OrderedDict() if withheld is None else withheld

    async def get_response(  # noqa: PLR0913 -- the SDK's own interface
        self,
        system_instructions: str | None,
        input: str | list[Any],  # noqa: A002 -- the SDK's own name
        model_settings: Any,  # noqa: ANN401 -- passed on as it is, like all that follow
        tools: list[Any],
        output_schema: Any,  # noqa: ANN401
        handoffs: list[Any],
        tracing: Any,  # noqa: ANN401
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: Any,  # noqa: ANN401
    ) -> ModelResponse:
        """The first answer that may be acted on, or a refusal."""
        if previous_response_id or conversation_id:
            return ModelResponse([refused(refusal(PARTIAL, Surface.REPLY))], Usage(), None)
        answer = partial(
            self._model.get_response,
            system_instructions,
            model_settings=model_settings,
            tools=tools,
            output_schema=output_schema,
            handoffs=handoffs,
            tracing=tracing,
            previous_response_id=None,
            conversation_id=None,
            prompt=prompt,
        )
        header: Object = {"instructions": system_instructions or "", "tools": specs(tools, handoffs)}
        items = await self._screened(header, ItemHelpers.input_to_new_input_list(input))
        return await self._judged(header, items, answer)

    async def stream_response(self, *request: Any, **more: Any) -> AsyncIterator[Any]:  # noqa: ANN401 -- passed on
        """The same answer as a stream; it begins when the answer is judged."""
        for event in events(await self.get_response(*request, **more)):
            yield event

    def get_retry_advice(self, request: Any) -> Any:  # noqa: ANN401 -- the model's own
        """What the model advises after a failed request."""
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)

    async def _judged(
        self, header: Object, items: list[Any], answer: Callable[..., Awaitable[ModelResponse]]
    ) -> ModelResponse:
        usage, notices = Usage(), []
        kept = items  # and notices: what the agent's next turns will know, and so what is judged
        while True:
            response = await answer(input=items)
            usage.add(response.usage)
            said: list[Any] = response.to_input_items()
            calls = [one for one in said if text_at(one, "type") in LOCAL]
            surface = Surface.TOOL_CALL if calls else Surface.REPLY
            decision = await self._client.ask(_question(surface, header, [*kept, *said]))
            if isinstance(decision, Allow):
                return replace(response, output=[*notices, *response.output], usage=usage)
            reason = refusal(decision, surface)
            telling = calls and all(one["type"] in TELLING for one in calls)
            if decision.degraded or not telling or len(notices) + 1 == MOST_ANSWERS:
                return replace(response, output=[*notices, refused(reason)], usage=usage)
            notices.append(notice(reason))
            kept = [*kept, notices[-1].model_dump(exclude_unset=True)]
            told = [{"type": TELLING[one["type"]], "call_id": one["call_id"], "output": reason} for one in calls]
            items = [*items, *said, *told]

    async def _screened(self, header: Object, items: list[Any]) -> list[Any]:
        """The items with each result that may not be read replaced; asks about those that no model has read."""
        seen = self._without_withheld(items)
        results = fresh(seen)
        decision = await self._client.ask(_question(Surface.TOOL_RESULT, header, seen)) if results else Allow()
        if isinstance(decision, Allow):
            return seen
        for one in results:
            self._withheld[_name(one)] = refusal(decision, Surface.TOOL_RESULT)
        while len(self._withheld) > MOST_WITHHELD:
            self._withheld.popitem(last=False)
        return self._without_withheld(items)

    def _without_withheld(self, items: list[Any]) -> list[Any]:
        reasons = [self._withheld.get(_name(one)) if is_result(one) else None for one in items]
        return [{**one, "output": said} if said else one for one, said in zip(items, reasons, strict=True)]


class GuardedProvider(ModelProvider):
    """Gives the models of another provider, guarded.

    Args:
        provider: finds models by their names.
        client: asks the service.
    """

    def __init__(self, provider: ModelProvider, client: Client) -> None:
        self._provider, self._client = provider, client
        self._withheld: Withheld = OrderedDict()

    def get_model(self, model_name: str | None) -> GuardedModel:
        """The model of that name."""
        return GuardedModel(self._provider.get_model(model_name), self._client, self._withheld)

    async def aclose(self) -> None:
        """Close the provider."""
        await self._provider.aclose()


def _question(surface: Surface, header: Object, items: list[Any]) -> Question:
    """The runs of one process are told apart by how they began."""
    return Question(surface, {**header, "input": items}, "responses", "openai-agents", session=repr(items[:1]))


def _name(result: Object) -> str:
    return digest([text_at(result, "call_id"), text_at(result, "output")])
