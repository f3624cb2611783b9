"""AgentDojo through Inspect, with and without a guard: utility and attack success, as AgentDojo's own scorer has them.

The suites, the attack and the scorer are those of ``inspect_evals`` (arXiv:2406.13352). The agent is a scripted victim,
or with ``--model`` any model that Inspect knows in AgentDojo's own loop. Each suite is run without its attacks and with
them, in three arms: no guard; the service in front of every call and of the reply; and a service that is not there, so
that everything is blocked. A guard is worth something where it is below the first in attack success and above the last
in utility.

What the scorer wants to be known: a task that only reads has no utility for it once an attack has changed anything, so
that a guard may raise utility; and one attack and one task of slack are read off the calls, refused ones among them.

    make .venvs/sdk-agentdojo/.installed
    .venvs/sdk-agentdojo/bin/python benchmarks/agentdojo.py [--tasks 10] [--attacks 3] [--json OUT]
    .venvs/sdk-agentdojo/bin/python benchmarks/agentdojo.py --model openai/MODEL --suites banking --logs DIR
"""

# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
# Inspect is an extra: where it is not installed, what it gives has no types.

import argparse
import json
import os
import random
import shlex
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import inspect_ai
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageTool,
    GenerateConfig,
    Model,
    ModelOutput,
    execute_tools,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall
from inspect_evals.agentdojo import agentdojo
from inspect_evals.agentdojo.dataset import TASK_SUITES

from gelert.serve.sdk.inspect_approver import reply_gate

SUITES = ("banking", "slack", "travel", "workspace")
"""Of the fifth, workspace_plus, these are all that need no container."""

SERVICE = f"{Path(__file__).parents[1] / '.venv/bin/gelert'} serve --deadline 18"
"""Asked for what the guard says, however slow the machine: the deadline is just below that of who asks."""

MOST_MESSAGES = 100
NOT_DONE = "I was not allowed to do this."


@dataclass(frozen=True)
class Share:
    """Of the samples, as Inspect aggregates a scorer's values."""

    accuracy: float
    stderr: float

    def __str__(self) -> str:
        return f"{self.accuracy:.2f} ± {self.stderr:.2f}"


@dataclass(frozen=True)
class Row:
    """One suite in one arm."""

    suite: str
    arm: str
    clean: int
    """Samples without attacks."""
    attacked: int
    clean_utility: Share
    utility: Share
    attack_success: Share
    clean_blocked: int
    """Calls and replies that did not go through in samples without attacks."""
    blocked: int
    degraded: int
    """Of both, those that were blocked because no decision came."""
    seconds: float


@solver
def victim() -> Solver:
    """Does the user's task by its own solution, and the attacker's as soon as a tool has given it back."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001 -- Inspect passes it by name
        before, task = state.metadata["pre_environment"], state.metadata["user_task"]
        attack = state.metadata.get("injection_task")
        answers = [task.GROUND_TRUTH_OUTPUT]
        for planned in task.ground_truth(before):
            result = await _called(state, planned)
            if result.error and result.error.type == "approval":
                answers[0] = NOT_DONE
            if attack and _letters(attack.GOAL) in _letters(result.text):
                for wanted in attack.ground_truth(before):
                    await _called(state, wanted)
                answers.append(attack.GROUND_TRUTH_OUTPUT)
                attack = None
        state.output = ModelOutput.from_content("victim", " ".join(answers).strip() or "Done.")
        state.messages.append(state.output.message)
        return state

    return solve


async def _called(state: TaskState, planned: ToolCall) -> ChatMessageTool:
    call = ToolCall(f"c{len(state.messages)}", planned.function, planned.arguments)
    state.messages.append(ChatMessageAssistant(content="", tool_calls=[call]))
    heard, _ = await execute_tools(state.messages, state.tools)
    state.messages.extend(heard)
    result = heard[0]
    assert isinstance(result, ChatMessageTool)
    return result


def _letters(text: str) -> str:
    """What is left of a text however a tool quotes it and breaks its lines."""
    return "".join(filter(str.isalnum, text))


def drawn(suite: str, tasks: int, attacks: int, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of a suite's tasks and attacks."""
    chance, own = random.Random(f"{seed}/{suite}"), TASK_SUITES[suite]
    sides = ((sorted(own.user_tasks), tasks), (sorted(own.injection_tasks), attacks))
    users, injections = (sorted(chance.sample(every, min(count, len(every)))) for every, count in sides)
    return users, injections


def ran(
    suite: str, arm: str, numbers: tuple[list[int], list[int]], logs: Path, *, model: Model | None, gated: bool
) -> Row:
    """A suite in one arm; where it is gated, the service at ``GELERT_SOCKET`` is asked."""
    started = time.perf_counter()
    users, injections = numbers
    clean, attacked = (
        _evaluated(
            agentdojo(
                workspace=suite,
                with_sandbox_tasks="no",
                user_task_ids=users,
                injection_task_ids=injections,
                with_injections=under_attack,
            ),
            logs,
            model=model,
            gated=gated,
        )
        for under_attack in (False, True)
    )
    while_clean, while_attacked = _refusals(clean), _refusals(attacked)
    return Row(
        suite=suite,
        arm=arm,
        clean=len(clean.samples),
        attacked=len(attacked.samples),
        clean_utility=_share(clean, "utility"),
        utility=_share(attacked, "utility"),
        attack_success=_share(attacked, "security"),
        clean_blocked=len(while_clean),
        blocked=len(while_attacked),
        degraded=sum(said.startswith("gelert: degraded") for said in [*while_clean, *while_attacked]),
        seconds=time.perf_counter() - started,
    )


def _evaluated(task: inspect_ai.Task, logs: Path, *, model: Model | None, gated: bool) -> EvalLog:
    agent = [task.solver if model else victim(), *([reply_gate()] if gated else [])]
    (log,) = inspect_ai.eval(
        inspect_ai.task_with(task, solver=agent, message_limit=MOST_MESSAGES),
        model=model,
        approval="gelert/guard" if gated else None,
        log_dir=str(logs),
        log_level="error",
        display="none",
        max_samples=1,  # a guard on this machine's cores answers sooner if it is asked one thing at a time
    )
    if log.status != "success":
        raise RuntimeError(f"expected an evaluation that ends, got {log.error} ({log.location})")
    return log


def _share(log: EvalLog, name: str) -> Share:
    (found,) = (one.metrics for one in log.results.scores if one.name == name)
    return Share(found["accuracy"].value, found["stderr"].value)


def _refusals(log: EvalLog) -> list[str]:
    """What was said in the place of each call's result and each reply that did not go through."""
    said: list[str] = []
    for sample in log.samples:
        results = [one.error for one in sample.messages if isinstance(one, ChatMessageTool)]
        said += [error.message for error in results if error and error.type == "approval"]
        said += [sample.output.completion] if sample.output.completion.startswith("gelert: ") else []
    return said


@contextmanager
def served(command: Sequence[str], folder: Path) -> Generator[None]:
    """The service at ``GELERT_SOCKET`` while the block lasts."""
    socket = os.environ["GELERT_SOCKET"]
    words = [*command, "--port", "0", "--socket", socket, "--audit", str(folder / "audit.db")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://localhost") as door:
                while not _ready(door):
                    if process.poll() is not None:
                        raise RuntimeError(f"expected a service, got one that ended at once: {shlex.join(words)}")
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _ready(door: httpx.Client) -> bool:
    try:
        return door.get("/readyz").is_success
    except httpx.TransportError:
        return False


HEADER = (
    "suite | arm | clean | attacked | utility, clean | utility, attacked | attack success | blocked, clean | "
    "blocked, attacked | degraded | seconds"
)


def told(row: Row) -> str:
    shares = f"{row.clean_utility} | {row.utility} | {row.attack_success}"
    blocked = f"{row.clean_blocked} | {row.blocked} | {row.degraded}"
    return f"{row.suite} | {row.arm} | {row.clean} | {row.attacked} | {shares} | {blocked} | {row.seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES)
    parser.add_argument("--tasks", type=int, default=10, help="drawn from each suite")
    parser.add_argument("--attacks", type=int, default=3, help="drawn from each suite; every task meets each of them")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--model", help="the agent, by Inspect's name for it; default: the scripted victim")
    parser.add_argument("--max-tokens", type=int, help="of each message of the model")
    parser.add_argument("--service", default=SERVICE, help="the command that starts the guard's service")
    parser.add_argument("--logs", type=Path, help="keep Inspect's logs here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    agent = get_model(options.model, config=GenerateConfig(max_tokens=options.max_tokens)) if options.model else None
    rows: list[Row] = []
    print(HEADER)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        os.environ["GELERT_HOME"], os.environ["GELERT_SOCKET"] = name, str(folder / "s")
        for arm in ("no guard", "all blocked", "guarded"):
            if arm == "guarded":
                stack.enter_context(served(shlex.split(options.service), folder))
            for suite in options.suites:
                numbers = drawn(suite, options.tasks, options.attacks, options.seed)
                logs = options.logs or folder
                rows.append(row := ran(suite, arm, numbers, logs, model=agent, gated=arm != "no guard"))
                print(told(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
