"""Record agent logs in their native formats: real runtimes, real tool calls, scripted words, no network.

The model is a scripted server on loopback (``Model``); what the tools do in the disposable workspace is real. A run of
``python examples/record.py`` writes one log for each scenario of ``scenarios.toml`` and fails if a scenario's side
effects did not happen. It needs ``openai-codex-cli-bin`` and ``claude-agent-sdk``, or the paths of their binaries.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEADLINE_SECONDS = 120
MARKER = ".gelert-recording"


class RecordingError(Exception):
    """A runtime is missing, ran past its deadline, or did not do what its scenario says."""


@dataclass(frozen=True)
class Turn:
    """What the model says at one point, and the one tool it calls there, if any."""

    say: str = ""
    think: str = ""
    run: str = ""
    """A shell command, under whatever name the runtime gives its shell."""
    tool: str = ""
    """Another tool of the runtime, with ``input``."""
    input: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One run: what the workspace holds, what the user asks, what the model does, and what must come of it."""

    name: str
    runtime: str
    project: str
    prompt: str
    turns: tuple[Turn, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    """Shell commands run in the workspace before the agent starts."""
    holds: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions that these files must match afterwards; paths are relative to the workspace."""
    gone: tuple[str, ...] = ()
    """Files that must not exist afterwards."""
    received: str = ""
    """A regular expression for what the outside endpoint must have been sent."""


def scenarios(path: Path = HERE / "scenarios.toml") -> tuple[Scenario, ...]:
    """The scenario table."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
    return tuple(_scenario(row) for row in rows)


def _scenario(row: dict[str, Any]) -> Scenario:
    turns = tuple(Turn(**turn) for turn in row.pop("turn"))
    setup, gone = tuple(row.pop("setup", ())), tuple(row.pop("gone", ()))
    return Scenario(turns=turns, setup=setup, gone=gone, **row)


# --- the scripted model -----------------------------------------------------------------------------------------------


class Model(ThreadingHTTPServer):
    """Speaks OpenAI Responses and Anthropic Messages; anything else that is sent to it is kept in ``outside``."""

    daemon_threads = True

    def __init__(self, scenario: Scenario, workspace: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.scenario = scenario
        self.workspace = workspace
        self.outside: list[str] = []
        self._lock = threading.Lock()
        self._count = 0

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def identity(self, prefix: str) -> str:
        """A fresh id: the runtimes merge messages that share one."""
        with self._lock:
            self._count += 1
            return f"{prefix}_{self._count:04d}"

    def turn(self, results: int) -> Turn:
        """The turn after so many tool results; the last one repeats, should a runtime ask again."""
        turn = self.scenario.turns[min(results, len(self.scenario.turns) - 1)]
        return replace(turn, run=self._filled(turn.run), input={k: self._filled(v) for k, v in turn.input.items()})

    def _filled(self, text: str) -> str:
        return text.replace("{endpoint}", self.url).replace("{workspace}", str(self.workspace))


class _Door(BaseHTTPRequestHandler):
    server: Model  # pyright: ignore[reportIncompatibleVariableOverride] -- only a Model opens this door
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's own names
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._reply(200, b"", "text/plain")

    def do_GET(self) -> None:
        self._reply(404, b"not found\n", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        if path == "/v1/responses":
            self._stream(responses_events(self.server, json.loads(body)))
        elif path == "/v1/messages":
            self._stream(messages_events(self.server, json.loads(body)))
        elif path == "/v1/messages/count_tokens":
            self._reply(200, b'{"input_tokens":10}', "application/json")
        else:
            self.server.outside.append(body.decode("utf-8", "replace"))
            self._reply(200, b"ok\n", "text/plain")

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
        self._reply(200, text.encode(), "text/event-stream")

    def _reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def responses_events(model: Model, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One answer in OpenAI's Responses form, as Codex reads it."""
    kinds = [item.get("type") for item in request["input"]]
    turn = model.turn(sum(kind in ("function_call_output", "custom_tool_call_output") for kind in kinds))
    response = model.identity("resp")
    yield {"type": "response.created", "response": {"id": response}}
    for item in _response_items(model, turn):
        yield {"type": "response.output_item.done", "item": item}
    usage = {"input_tokens": 100, "input_tokens_details": None, "output_tokens": 20, "output_tokens_details": None}
    yield {"type": "response.completed", "response": {"id": response, "usage": {**usage, "total_tokens": 120}}}


def _response_items(model: Model, turn: Turn) -> Iterator[dict[str, Any]]:
    if turn.think:
        summary = [{"type": "summary_text", "text": turn.think.strip()}]
        yield {"type": "reasoning", "id": model.identity("rs"), "summary": summary, "encrypted_content": None}
    if turn.say:
        content = [{"type": "output_text", "text": turn.say.strip()}]
        yield {"type": "message", "role": "assistant", "id": model.identity("msg"), "content": content}
    if turn.run or turn.tool:
        name, arguments = ("exec_command", {"cmd": turn.run.strip()}) if turn.run else (turn.tool, dict(turn.input))
        call = {"id": model.identity("fc"), "call_id": model.identity("call"), "name": name}
        yield {"type": "function_call", **call, "arguments": json.dumps(arguments)}


def messages_events(model: Model, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One answer in Anthropic's Messages form, as Claude Code reads it."""
    tools = {tool.get("name") for tool in request.get("tools") or []}
    results = sum(
        block.get("type") == "tool_result"
        for message in request["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    )
    turn = model.turn(results) if "Bash" in tools else Turn(say="Working on the task")
    head = {"id": model.identity("msg"), "type": "message", "role": "assistant", "model": request["model"]}
    usage = {"input_tokens": 100, "output_tokens": 1}
    yield {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": usage}}
    for index, (opening, delta) in enumerate(_message_blocks(model, turn)):
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        if opening["type"] == "thinking":
            signed = {"type": "signature_delta", "signature": "c2NyaXB0ZWQ="}
            yield {"type": "content_block_delta", "index": index, "delta": signed}
        yield {"type": "content_block_stop", "index": index}
    stop = "tool_use" if turn.run or turn.tool else "end_turn"
    yield {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def _message_blocks(model: Model, turn: Turn) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if turn.think:
        opening = {"type": "thinking", "thinking": "", "signature": ""}
        yield opening, {"type": "thinking_delta", "thinking": turn.think.strip()}
    if turn.say:
        yield {"type": "text", "text": ""}, {"type": "text_delta", "text": turn.say.strip()}
    if turn.run or turn.tool:
        shell = {"command": turn.run.strip(), "description": (turn.say.strip().splitlines() or ["Run"])[0][:80]}
        name, arguments = ("Bash", shell) if turn.run else (turn.tool, dict(turn.input))
        opening = {"type": "tool_use", "id": model.identity("toolu"), "name": name, "input": {}}
        yield opening, {"type": "input_json_delta", "partial_json": json.dumps(arguments)}


# --- the runtimes -----------------------------------------------------------------------------------------------------


def find_codex() -> Path | None:
    """The Codex binary of the installed ``openai-codex-cli-bin``."""
    return _packaged("codex_cli_bin", "bin/codex")


def find_claude() -> Path | None:
    """The Claude Code binary of the installed ``claude-agent-sdk``."""
    return _packaged("claude_agent_sdk", "_bundled/claude")


def _packaged(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    places = [Path(p) / path for p in (spec.submodule_search_locations or [])] if spec else []
    return next((p for p in places if p.is_file()), None)


def environment(home: Path) -> dict[str, str]:
    """All that a runtime gets of the caller's environment: nothing."""
    path = "/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC", "USER": "dev", "SHELL": "/bin/bash"}


def codex_command(
    binary: Path, scenario: Scenario, home: Path, workspace: Path, url: str
) -> tuple[list[str], dict[str, str]]:
    """Write Codex's configuration; gives the command and its environment."""
    folder = home / ".codex"
    folder.mkdir()
    config = f"""model = "scripted-model"
model_provider = "scripted"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
[projects."{workspace}"]
trust_level = "trusted"
"""
    (folder / "config.toml").write_text(config, encoding="utf-8")
    command = [str(binary), "exec", "--json", "--skip-git-repo-check", scenario.prompt.strip()]
    return command, {**environment(home), "CODEX_HOME": str(folder)}


def claude_command(
    binary: Path, scenario: Scenario, home: Path, workspace: Path, url: str
) -> tuple[list[str], dict[str, str]]:
    """Write Claude Code's settings; gives the command and its environment."""
    folder = home / ".claude"
    folder.mkdir()
    settings = folder / "recording.json"
    allowed = ["Bash(*)", "Read(*)", "Edit(*)", "Write(*)", "Grep(*)", "Glob(*)"]
    permissions = {"allow": allowed, "additionalDirectories": [str(workspace.parent)]}
    settings.write_text(json.dumps({"permissions": permissions}), encoding="utf-8")
    options = ["--settings", str(settings), "--model", "scripted-model", "--output-format", "json"]
    own = {
        "CLAUDE_CONFIG_DIR": str(folder),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "local",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return [str(binary), "-p", scenario.prompt.strip(), *options], {**environment(home), **own}


RUNTIMES = {"codex": codex_command, "claude": claude_command}
LOGS = {"codex": ".codex/sessions/*/*/*/rollout-*.jsonl", "claude": ".claude/projects/*/*.jsonl"}


# --- one recording ----------------------------------------------------------------------------------------------------


def record(scenario: Scenario, binary: Path, root: Path, out: Path) -> Path:
    """Run one scenario in a fresh home and workspace under ``root``; gives the log written into ``out``.

    Raises:
        RecordingError: the runtime failed, wrote no single log, or the side effects are not those of the scenario.
    """
    with serving(scenario, root / scenario.project) as model:
        home, workspace = _fresh(root, scenario, model.url)
        _run(scenario, binary, home, workspace, model.url)
        check_effects(scenario, workspace, model.outside)
    logs = sorted(home.glob(LOGS[scenario.runtime]))
    if len(logs) != 1:
        raise RecordingError(f"expected one log of {scenario.name!r}, got {len(logs)} under {home}")
    target = out / f"{scenario.name}.jsonl"
    lines = logs[0].read_text(encoding="utf-8").splitlines(keepends=True)
    target.write_text("".join(published(line) for line in lines), encoding="utf-8")
    return target


LEFT_OUT = "[the runtime's own text, left out of this recording]"
VENDOR_LINES = {"prompt_snapshot", "skill_listing", "agent_listing_delta", "api-request-shape", "api-request-blob"}
VENDOR_TEXT_CHARACTERS = 200


def published(line: str) -> str:
    """The line as the runtime wrote it, but for what is not ours to publish.

    Claude Code writes its own prompt and tool manuals into the transcript; their texts are left out, and nothing else
    of those lines. This machine's kernel version is replaced everywhere.
    """
    line = line.replace(os.uname().release, "6.1.0")
    row = json.loads(line)
    if {row["type"], (row.get("attachment") or {}).get("type")} & VENDOR_LINES:
        return json.dumps(_without_long_texts(row), ensure_ascii=False, separators=(",", ":")) + "\n"
    return line


def _without_long_texts(value: object) -> object:
    match value:
        case str():
            return LEFT_OUT if len(value) > VENDOR_TEXT_CHARACTERS else value
        case list():
            return [_without_long_texts(item) for item in value]
        case dict():
            return {key: _without_long_texts(item) for key, item in value.items()}
        case _:
            return value


@contextmanager
def serving(scenario: Scenario, workspace: Path) -> Generator[Model]:
    """The scripted model, listening for as long as the block runs."""
    model = Model(scenario, workspace)
    thread = threading.Thread(target=model.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.shutdown()
        model.server_close()
        thread.join()


def _fresh(root: Path, scenario: Scenario, url: str) -> tuple[Path, Path]:
    if root.exists() and not (root / MARKER).is_file():
        raise RecordingError(f"expected {root} not to exist or to be an earlier recording's; pass another --root")
    shutil.rmtree(root, ignore_errors=True)
    home, workspace = root / "home", root / scenario.project
    home.mkdir(parents=True)
    (root / MARKER).touch()
    workspace.mkdir()
    identity = "[user]\n\tname = Dev\n\temail = dev@example.com\n[init]\n\tdefaultBranch = main\n"
    (home / ".gitconfig").write_text(identity, encoding="utf-8")
    for name, text in scenario.files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{endpoint}", url), encoding="utf-8")
    for command in scenario.setup:
        _shell(command, workspace, home)
    return home, workspace


def _shell(command: str, workspace: Path, home: Path) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", command], cwd=workspace, env=environment(home), timeout=30, check=False, capture_output=True
    )
    if done.returncode:
        raise RecordingError(f"expected the set-up command {command!r} to succeed, got {done.stderr.decode()!r}")


def _run(scenario: Scenario, binary: Path, home: Path, workspace: Path, url: str) -> None:
    command, variables = RUNTIMES[scenario.runtime](binary, scenario, home, workspace, url)
    process = subprocess.Popen(
        command,
        cwd=workspace,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RecordingError(f"expected {scenario.name!r} to end within {DEADLINE_SECONDS} s; it was killed") from None
    finally:
        _stop_leftover(workspace)
    if process.returncode:
        tail = output.decode("utf-8", "replace")[-1500:]
        raise RecordingError(f"expected {scenario.name!r} to exit 0, got {process.returncode}: {tail}")


def _stop_leftover(workspace: Path) -> None:
    """End the process that a scenario's set-up started, should the agent not have done it."""
    for file in workspace.glob("*.pid"):
        number = file.read_text().strip()
        command = Path(f"/proc/{number}/cmdline")
        if number.isdigit() and command.exists() and b"worker.py" in command.read_bytes():
            os.kill(int(number), signal.SIGKILL)


def check_effects(scenario: Scenario, workspace: Path, outside: list[str]) -> None:
    """Compare what is on disk, and what the outside endpoint was sent, with what the scenario says.

    Raises:
        RecordingError: they differ.
    """
    for name, pattern in scenario.holds.items():
        path = workspace / name
        text = path.read_text(encoding="utf-8") if path.is_file() else "(no such file)"
        if not re.search(pattern, text):
            raise RecordingError(f"expected {name!r} of {scenario.name!r} to match {pattern!r}, got {text[:300]!r}")
    for name in scenario.gone:
        if (workspace / name).exists():
            raise RecordingError(f"expected {name!r} of {scenario.name!r} to be gone, but it is there")
    sent = "\n".join(outside)
    if bool(scenario.received) != bool(sent) or not re.search(scenario.received, sent):
        raise RecordingError(f"expected {scenario.name!r} to send {scenario.received!r} outside, got {sent[:300]!r}")


def main() -> int:
    """Record the chosen scenarios; 0 if all were written."""
    parser = argparse.ArgumentParser(description="Record agent logs with real runtimes and a scripted model.")
    parser.add_argument("only", nargs="*", help="scenario names (default: all)")
    parser.add_argument("--codex", type=Path, default=find_codex(), help="Codex's binary")
    parser.add_argument("--claude", type=Path, default=find_claude(), help="Claude Code's binary")
    parser.add_argument("--root", type=Path, default=Path("/tmp/gelert-demo"), help="disposable folder; its path shows")
    parser.add_argument("--out", type=Path, default=HERE / "logs", help="where the logs go")
    options = parser.parse_args()
    chosen = [s for s in scenarios() if not options.only or s.name in options.only]
    failed = 0
    for scenario in chosen:
        try:
            binary = getattr(options, scenario.runtime)
            if binary is None:
                raise RecordingError("the runtime is missing: pip install openai-codex-cli-bin claude-agent-sdk")
            path = record(scenario, binary, options.root, options.out)
            sys.stdout.write(f"{path.name}  {path.stat().st_size} bytes\n")
        except RecordingError as fault:
            failed += 1
            sys.stderr.write(f"{scenario.name}: {fault}\n")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
