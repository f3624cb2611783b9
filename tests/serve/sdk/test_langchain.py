"""The LangChain adapter: LangChain's own agent with a scripted model, and the real service before it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gelert.guard.policy import Policy, Rule
from gelert.serve.sdk.client import Client
from tests.serve.scripted_guard import MARK, ResumableGuard
from tests.serve.sdk.support import ASKING, listening

agents: Any = pytest.importorskip("langchain.agents", reason="LangChain is an extra; make test-sdks installs it")
fakes: Any = pytest.importorskip("langchain_core.language_models.fake_chat_models")
messages: Any = pytest.importorskip("langchain_core.messages")
types: Any = pytest.importorskip("langgraph.types")
memory: Any = pytest.importorskip("langgraph.checkpoint.memory")

pytestmark = pytest.mark.bridges

Run = Callable[[Any], Any]


class Scripted(fakes.GenericFakeChatModel):  # pyright: ignore[reportUntypedBaseClass] -- LangChain is an extra
    """LangChain's own fake model, which takes tools."""

    def bind_tools(self, *_: Any, **__: Any) -> "Scripted":
        return self


def calls(*commands: str, text: str = "") -> Any:
    """A turn in which the agent makes a call for each command."""
    made = [{"name": "shell", "args": {"command": one}, "id": f"c{n}"} for n, one in enumerate(commands)]
    return messages.AIMessage(text, tool_calls=made)


def says(text: str) -> Any:
    return messages.AIMessage(text)


class Ran:
    """An agent, and what its tool ran."""

    def __init__(self, *script: Any, client: Client | None = None, **more: Any) -> None:
        from gelert.serve.sdk.langchain_middleware import GelertMiddleware

        self.commands: list[str] = []

        def shell(command: str) -> str:
            """Runs a command."""
            self.commands.append(command)
            return f"ran {command}"

        middleware = [GelertMiddleware(client or Client())]
        model = Scripted(messages=iter(script))
        self.agent = agents.create_agent(model, [shell], middleware=middleware, system_prompt="Be tidy.", **more)

    def begin(self) -> dict[str, Any]:
        return {"messages": [messages.HumanMessage("tidy up")]}


def blocking(ran: Ran) -> Any:
    return ran.agent.invoke(ran.begin())["messages"]


def awaiting(ran: Ran) -> Any:
    return asyncio.run(ran.agent.ainvoke(ran.begin()))["messages"]


@pytest.fixture(params=[blocking, awaiting])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an agent in both of LangChain's ways."""
    return request.param


def test_a_benign_run_is_unchanged_and_every_step_of_it_is_read_once(socket: Path, run: Run) -> None:
    guard = ResumableGuard()
    with listening(socket, guard) as service:
        ran = Ran(calls("ls"), calls("cat a"), says("done"))
        found = run(ran)
        decided = service.decided()
    assert ran.commands == ["ls", "cat a"]
    assert [one.text for one in found] == ["tidy up", "", "ran ls", "", "ran cat a", "done"]
    assert decided == [(surface, "allow") for surface in ["tool_call", "tool_result"] * 2 + ["reply"]]
    assert guard.read == len(found) + 1  # the system prompt is a step too


def test_an_unsafe_call_is_not_run_and_the_model_goes_on_with_the_reason(socket: Path, run: Run) -> None:
    with listening(socket, policy=Policy(reply=Rule(block_at=1.0))):
        ran = Ran(calls(MARK), says("done"))
        found = run(ran)
    assert ran.commands == []
    assert found[3].text == "done"
    assert found[2].status == "error"
    assert found[2].text.startswith("gelert: blocked: risk 0.99 on tool_call. The tool was not run.")


def test_no_call_hides_behind_another_of_its_turn(socket: Path, run: Run) -> None:
    with listening(socket):
        ran = Ran(calls("ls", MARK), says("done"))
        run(ran)
    assert ran.commands == []


def test_no_call_hides_behind_the_id_of_an_earlier_one(socket: Path, run: Run) -> None:
    with listening(socket):
        ran = Ran(calls("ls"), calls(MARK), says("done"))
        run(ran)
    assert ran.commands == ["ls"]


def test_an_unsafe_reply_is_not_given(socket: Path, run: Run) -> None:
    with listening(socket):
        found = run(Ran(calls("ls"), says(f"here: {MARK}")))
    assert MARK not in str(found)
    assert found[-1].text == "gelert: blocked: risk 0.99 on reply. The reply is withheld."


def test_a_result_that_may_not_be_read_is_withheld(socket: Path, run: Run) -> None:
    with listening(socket, policy=Policy(tool_result=Rule(block_at=0.0))):
        ran = Ran(calls("ls"), says("done"))
        found = run(ran)
    assert ran.commands == ["ls"]
    assert "ran ls" not in str(found)
    assert found[2].text.startswith("gelert: blocked: risk 0.01 on tool_result. The result is withheld.")


def test_without_a_service_nothing_is_run_and_nothing_is_given(socket: Path, run: Run) -> None:
    ran = Ran(calls("ls"), says("done"))
    found = run(ran)
    assert ran.commands == []
    for one in found[2:]:
        assert one.text.startswith("gelert: degraded, blocked: expected a decision of the service")
        assert str(socket) in one.text
    assert "done" not in [one.text for one in found]


def streamed(ran: Ran) -> str:
    return "".join(one.text for one, _ in ran.agent.stream(ran.begin(), stream_mode="messages"))


def streamed_awaiting(ran: Ran) -> str:
    async def stream() -> str:
        return "".join([one.text async for one, _ in ran.agent.astream(ran.begin(), stream_mode="messages")])

    return asyncio.run(stream())


@pytest.mark.parametrize("stream", [streamed, streamed_awaiting])
def test_a_stream_shows_no_word_of_an_unsafe_reply(socket: Path, stream: Callable[[Ran], str]) -> None:
    with listening(socket):
        assert stream(Ran(says("all is done"))).endswith("all is done")
        unsafe = stream(Ran(says(f"a secret is {MARK}")))
    assert "secret" not in unsafe
    assert "withheld" in unsafe


def test_the_answer_of_a_structure_is_a_reply(socket: Path, run: Run) -> None:
    structure = {"title": "Told", "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    strategy = pytest.importorskip("langchain.agents.structured_output").ToolStrategy(structure)
    for text, kind in (("done", "allow"), (MARK, "block")):
        said = messages.AIMessage("", tool_calls=[{"name": "Told", "args": {"text": text}, "id": "c0"}])
        with listening(socket) as service:
            found = run(Ran(said, response_format=strategy))
            assert service.decided()[-1] == ("reply", kind)
        assert (MARK in str(found)) is False


@pytest.mark.parametrize(("answer", "commands"), [("approve", [MARK]), ("reject", [])])
def test_a_person_is_asked_as_langchain_asks(socket: Path, answer: str, commands: list[str]) -> None:
    place = {"configurable": {"thread_id": "t"}}
    with listening(socket, policy=ASKING):
        ran = Ran(calls(MARK), says("done"), checkpointer=memory.InMemorySaver())
        (asked,) = ran.agent.invoke(ran.begin(), place)["__interrupt__"]
        assert ran.commands == []
        assert (asked.value["type"], asked.value["args"]) == ("tool_approval", {"command": MARK})
        found = ran.agent.invoke(types.Command(resume={"type": answer}), place)["messages"]
    assert ran.commands == commands
    assert ("a person said no" in found[2].text) is (answer == "reject")


def test_without_a_checkpointer_a_call_that_is_asked_about_is_not_run(socket: Path) -> None:
    with listening(socket, policy=ASKING):
        ran = Ran(calls(MARK), says("done"))
        ran.agent.invoke(ran.begin())
    assert ran.commands == []
