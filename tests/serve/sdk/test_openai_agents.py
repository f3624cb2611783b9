"""The adapter for the OpenAI Agents SDK: its own runner and scripted model, and the real service between the two."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gelert.guard.policy import Policy, Rule
from gelert.serve.sdk.client import Client
from tests.serve.scripted_guard import MARK, ResumableGuard
from tests.serve.sdk.support import ASKING, listening

agents: Any = pytest.importorskip("agents", reason="The OpenAI Agents SDK is an extra; make test-sdks installs it")
testing: Any = pytest.importorskip("agents.testing")

pytestmark = pytest.mark.bridges

Run = Callable[..., Any]


class Provider(agents.ModelProvider):  # pyright: ignore[reportUntypedBaseClass] -- the SDK is an extra
    """Gives the scripted model under every name."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def get_model(self, model_name: str | None) -> Any:
        del model_name
        return self.model


class Ran:
    """An agent, its model, and what its tool ran."""

    def __init__(self, *script: Any, client: Client | None = None, **more: Any) -> None:
        from gelert.serve.sdk.openai_agents import GuardedProvider

        self.commands: list[str] = []
        self.model = testing.ScriptedModel(list(script))

        def shell(command: str) -> str:
            """Runs a command."""
            self.commands.append(command)
            return f"ran {command}"

        own = {"name": "tidy", "instructions": "Be tidy.", "tools": [agents.function_tool(shell)]}
        self.agent = agents.Agent(**own | more)
        provider = GuardedProvider(Provider(self.model), client or Client())
        self.config = agents.RunConfig(model_provider=provider, tracing_disabled=True)

    def told(self) -> list[str]:
        """Every text that the model was given as a tool's result in its last request."""
        return [one["output"] for one in self.model.last_call.input if one.get("type") == "function_call_output"]


def calls(*commands: str, turn: str = "t") -> list[Any]:
    """A turn in which the agent makes a call for each command."""
    return [testing.function_call("shell", {"command": one}, call_id=f"{turn}{n}") for n, one in enumerate(commands)]


def says(text: str) -> list[Any]:
    return [testing.assistant_message(text)]


def whole(ran: Ran, begin: Any = "tidy up", **more: Any) -> Any:
    return asyncio.run(agents.Runner.run(ran.agent, begin, run_config=ran.config, **more))


def streamed(ran: Ran, begin: Any = "tidy up", **more: Any) -> Any:
    async def run() -> Any:
        result = agents.Runner.run_streamed(ran.agent, begin, run_config=ran.config, **more)
        result.shown = ""
        async for event in result.stream_events():
            result.shown += getattr(getattr(event, "data", None), "delta", "")
        return result

    return asyncio.run(run())


@pytest.fixture(params=[whole, streamed])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an agent in both of the SDK's ways."""
    return request.param


def test_a_benign_run_is_unchanged_and_every_step_of_it_is_read_once(socket: Path, run: Run) -> None:
    guard = ResumableGuard()
    with listening(socket, guard) as service:
        ran = Ran(calls("ls"), calls("cat a", "cat b", turn="u"), says("done"))
        found = run(ran)
        decided = service.decided()
    assert ran.commands == ["ls", "cat a", "cat b"]
    assert ran.told() == ["ran ls", "ran cat a", "ran cat b"]
    assert found.final_output == "done"
    assert decided == [(surface, "allow") for surface in ["tool_call", "tool_result"] * 2 + ["reply"]]
    assert guard.read == len(["instructions", "user", "ls", "result", "cats", "result", "result", "reply"])


def test_an_unsafe_call_is_not_run_and_the_model_goes_on_with_the_reason(socket: Path, run: Run) -> None:
    with listening(socket):
        ran = Ran(calls(MARK), calls("ls", turn="u"), says("done"))
        found = run(ran)
    reason = "gelert: blocked: risk 0.99 on tool_call. The tool was not run."
    assert ran.commands == ["ls"]
    assert found.final_output == "done"
    assert ran.model.calls[1].input[-1]["output"].startswith(reason)
    assert reason in str(found.to_input_list())
    assert MARK not in str(found.to_input_list())


def test_answers_that_are_withheld_are_counted(socket: Path, run: Run) -> None:
    with listening(socket):
        ran = Ran(calls(MARK), says("done"))
        ran.model.set_default_usage(agents.Usage(requests=1, input_tokens=5, output_tokens=2, total_tokens=7))
        assert run(ran).context_wrapper.usage.total_tokens == 14


def test_no_call_hides_behind_another_of_its_turn(socket: Path, run: Run) -> None:
    with listening(socket):
        ran = Ran(calls("ls", MARK), says("done"))
        run(ran)
    assert ran.commands == []


def test_an_agent_that_insists_is_stopped(socket: Path, run: Run) -> None:
    with listening(socket):
        ran = Ran(*[calls(MARK, turn=turn) for turn in "tuvw"])
        with pytest.raises(agents.exceptions.ModelRefusalError, match=r"blocked: risk 0\.99 on tool_call"):
            run(ran)
    assert ran.commands == []
    assert ran.model.remaining_steps == 1


@pytest.mark.parametrize("structure", [None, list[str]])
def test_an_unsafe_reply_is_not_given(socket: Path, run: Run, structure: Any) -> None:
    with listening(socket):
        ran = Ran(calls("ls"), says(f"here: {MARK}"), output_type=structure)
        with pytest.raises(agents.exceptions.ModelRefusalError) as refused:
            run(ran)
    assert refused.value.refusal == "gelert: blocked: risk 0.99 on reply. The reply is withheld."
    assert MARK not in str(refused.value.run_data)


def test_a_refusal_can_be_answered_by_the_programs_own_words(socket: Path, run: Run) -> None:
    def words(data: Any) -> str:
        return f"Sorry. {data.error.refusal}"

    with listening(socket):
        found = run(Ran(says(MARK)), error_handlers={"model_refusal": words})
    assert found.final_output.startswith("Sorry. gelert: blocked")


def test_a_stream_shows_no_word_of_an_unsafe_reply_and_all_of_a_safe_one(socket: Path) -> None:
    handlers = {"model_refusal": lambda _: "withheld"}
    with listening(socket):
        assert streamed(Ran(says("all is done"))).shown == "all is done"
        assert streamed(Ran(says(f"a secret is {MARK}")), error_handlers=handlers).shown == ""


def test_a_result_that_may_not_be_read_is_withheld_for_good(socket: Path, run: Run) -> None:
    with listening(socket) as service:
        ran = Ran(calls("ls"), calls("cat a", turn="u"), says("done"), says("bye"))
        service.engine.policy = Policy(tool_result=Rule(block_at=0.0))
        first = run(ran)
        service.engine.policy = Policy()
        run(ran, [*first.to_input_list(), {"role": "user", "content": "thanks"}])
    assert ran.commands == ["ls", "cat a"]
    assert len(ran.told()) == 2
    for text in ran.told():
        assert text.startswith("gelert: blocked: risk 0.01 on tool_result. The result is withheld.")


def test_without_a_service_nothing_is_run_and_nothing_is_given(socket: Path, run: Run) -> None:
    for script in (calls("ls"), says("done")):
        ran = Ran(script, says("done"))
        with pytest.raises(agents.exceptions.ModelRefusalError, match="degraded, blocked: expected a decision") as said:
            run(ran)
        assert str(socket) in said.value.refusal
        assert ran.commands == []
        assert len(ran.model.calls) == 1


def test_a_call_that_a_person_is_asked_about_says_how_to_allow_it(socket: Path, run: Run) -> None:
    with listening(socket, policy=ASKING):
        ran = Ran(calls(MARK), says("please allow it"))
        found = run(ran)
    assert ran.commands == []
    assert "gelert approvals" in ran.told()[0]
    assert found.final_output == "please allow it"


def test_a_conversation_that_a_server_keeps_is_refused(socket: Path, run: Run) -> None:
    with listening(socket), pytest.raises(agents.exceptions.ModelRefusalError, match="expected the whole conversation"):
        run(Ran(says("done")), conversation_id="conv_1")


def test_a_handoff_is_judged_and_the_other_agent_is_guarded_too(socket: Path, run: Run) -> None:
    other = agents.Agent(name="other")
    transfer = [testing.function_call("transfer_to_other", {}, call_id="h")]
    with listening(socket) as service:
        ran = Ran(transfer, says(MARK), handoffs=[other])
        with pytest.raises(agents.exceptions.ModelRefusalError):
            run(ran)
        assert service.decided() == [("tool_call", "allow"), ("tool_result", "allow"), ("reply", "block")]


def test_an_agent_that_is_a_tool_is_guarded_too(socket: Path, run: Run) -> None:
    helper = agents.Agent(name="helper").as_tool("helper", "Helps.")
    asks = [testing.function_call("helper", {"input": "tidy"}, call_id="h")]
    with listening(socket) as service:
        ran = Ran(asks, says(MARK), says("done"), tools=[helper])
        assert run(ran).final_output == "done"
        decided = service.decided()
    assert MARK not in ran.told()[0]
    assert decided == [("tool_call", "allow"), ("reply", "block"), ("tool_result", "allow"), ("reply", "allow")]
