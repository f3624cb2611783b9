"""The Inspect adapter: Inspect's own evaluation with its offline model, and the real service before its tools."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gelert.guard.policy import Policy, Rule
from tests.serve.scripted_guard import MARK, ResumableGuard
from tests.serve.sdk.support import ASKING, listening

inspect_ai: Any = pytest.importorskip("inspect_ai", reason="Inspect is an extra; make test-sdks installs it")
approval: Any = pytest.importorskip("inspect_ai.approval")
model: Any = pytest.importorskip("inspect_ai.model")
solvers: Any = pytest.importorskip("inspect_ai.solver")
tools: Any = pytest.importorskip("inspect_ai.tool")

pytestmark = [
    pytest.mark.bridges,
    # Inspect calls tenacity in a way that it gives up, and leaves streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObjectReceiveStream:ResourceWarning"),
]

Evaluate = Callable[..., Any]


def calls(*commands: str) -> Any:
    """A turn in which the agent makes a call for each command."""
    made = [tools.ToolCall(f"c{n}", "shell", {"command": one}) for n, one in enumerate(commands)]
    message = model.ChatMessageAssistant(content="", tool_calls=made)
    choice = model.ChatCompletionChoice(message=message, stop_reason="tool_calls")
    return model.ModelOutput(model="mock", choices=[choice], usage=model.ModelUsage())


def says(text: str) -> Any:
    return model.ModelOutput.from_content("mock", text).model_copy(update={"usage": model.ModelUsage()})


@pytest.fixture
def commands() -> list[str]:
    """What the agent's tool ran."""
    return []


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str]) -> Iterator[Evaluate]:
    """Runs one sample with a scripted model, guarded; gives it as it stands in Inspect's log."""
    from gelert.serve.sdk.inspect_approver import reply_gate

    for place in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(place, str(tmp_path))

    async def execute(command: str) -> str:
        commands.append(command)
        return f"ran {command}"

    shell = tools.ToolDef(execute, "shell", "Runs a command.", {"command": "The command."}).as_tool()

    def run(*script: Any, policies: Any = "gelert/guard") -> Any:
        scripted = model.get_model("mockllm/model", custom_outputs=list(script), memoize=False)
        steps = [solvers.system_message("Be tidy."), solvers.use_tools(shell), solvers.generate(), reply_gate()]
        task = inspect_ai.Task(dataset=[inspect_ai.dataset.Sample(input="tidy up")], solver=steps)
        kept = {"log_dir": str(tmp_path), "display": "none", "approval": policies}
        (log,) = inspect_ai.eval(task, model=scripted, **kept)
        assert log.status == "success", log.error
        return log.samples[0]

    yield run
    gc.collect()  # while this test's filters hold


def test_a_benign_run_is_unchanged_and_every_step_of_it_is_read_once(
    socket: Path, evaluate: Evaluate, commands: list[str]
) -> None:
    guard = ResumableGuard()
    with listening(socket, guard) as service:
        found = evaluate(calls("ls"), calls("cat a"), says("done"))
        decided = service.decided()
    assert commands == ["ls", "cat a"]
    assert [one.text for one in found.messages] == ["Be tidy.", "tidy up", "", "ran ls", "", "ran cat a", "done"]
    assert found.output.completion == "done"
    assert decided == [("tool_call", "allow"), ("tool_call", "allow"), ("reply", "allow")]
    assert guard.read == len(found.messages)


def test_an_unsafe_call_is_not_run_and_the_model_goes_on_with_the_reason(
    socket: Path, evaluate: Evaluate, commands: list[str]
) -> None:
    with listening(socket, policy=Policy(reply=Rule(block_at=1.0))):
        found = evaluate(calls("ls"), calls(MARK), says("done"))
    assert commands == ["ls"]
    assert found.output.completion == "done"
    assert found.messages[5].error.type == "approval"
    assert "gelert: blocked: risk 0.99 on tool_call. The tool was not run." in found.messages[5].error.message


def test_no_call_hides_behind_another_of_its_turn(socket: Path, evaluate: Evaluate, commands: list[str]) -> None:
    with listening(socket):
        evaluate(calls("ls", MARK), says("done"))
    assert commands == []


def test_an_unsafe_reply_is_not_given(socket: Path, evaluate: Evaluate) -> None:
    with listening(socket):
        found = evaluate(calls("ls"), says(f"here: {MARK}"))
    assert found.output.completion == "gelert: blocked: risk 0.99 on reply. The reply is withheld."
    assert found.messages[-1].text == found.output.completion


def test_without_a_service_nothing_is_run_and_nothing_is_given(
    socket: Path, evaluate: Evaluate, commands: list[str]
) -> None:
    found = evaluate(calls("ls"), says("done"))
    assert commands == []
    for text in (found.messages[3].error.message, found.output.completion):
        assert text.startswith("gelert: degraded, blocked: expected a decision of the service")
        assert str(socket) in text


@pytest.mark.parametrize(("answer", "ran"), [("approve", [MARK]), ("reject", [])])
def test_a_call_that_a_person_is_asked_about_goes_to_the_next_approver(
    socket: Path, evaluate: Evaluate, commands: list[str], answer: str, ran: list[str]
) -> None:
    from gelert.serve.sdk.inspect_approver import guard

    person = approval.auto_approver(decision=answer)
    policies = [approval.ApprovalPolicy(one, "*") for one in (guard(), person)]
    with listening(socket, policy=ASKING):
        evaluate(calls(MARK), says("done"), policies=policies)
    assert commands == ran


def test_a_call_that_nobody_takes_on_is_not_run(socket: Path, evaluate: Evaluate, commands: list[str]) -> None:
    with listening(socket, policy=ASKING):
        evaluate(calls(MARK), says("done"))
    assert commands == []
