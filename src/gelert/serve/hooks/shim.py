"""The command that a runtime starts for each event: asks the service, and blocks if there is no answer.

It is started as ``python -I -S shim.py RUNTIME [EVENT]``, knows the standard library only and imports nothing of
Gelert, so that it is there at once and whatever state the installation is in. A runtime lets a tool run when its hook
crashes, hangs or talks nonsense; here every such fault is the runtime's own "block", with a reason that a person sees.
"""

import json
import os
import signal
import socket
import sys
import time

DEADLINE_SECONDS = 20.0
"""For everything; above the service's own deadline and below the one that ``gelert install`` writes for the runtime.
``GELERT_HOOK_SECONDS`` makes it shorter, never longer."""
MOST_BYTES = 16 << 20
"""Of what the runtime sends."""
MOST_ANSWER_BYTES = 48 << 10
"""Of what the service answers; a pipe takes as much at once, so a runtime that does not read cannot hold this up."""
MOST_HEAD_BYTES = 16 << 10
MOST_DEPTH = 100
"""Of a result whose form is kept; no runtime looks deeper."""
REASON_CHARACTERS = 2_000
NOTICE = "<task-notification>"
"""In a prompt of Claude Code's that no user wrote: it brings the reply of a subagent that ran in the background."""
BLOCK = 2
"""Exit code that Codex and Claude Code read as a block, with its reason on stderr."""


class Fault(Exception):  # noqa: N818 - what went wrong, on its way to become a block
    """No sound answer; its text says why."""


def socket_path() -> str:
    """Where the service listens; the same places as ``gelert.serve.places``."""
    given, runtime = os.environ.get("GELERT_SOCKET"), os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return given
    if runtime:
        return os.path.join(runtime, "gelert.sock")  # noqa: PTH118 - pathlib alone costs a third of the start-up
    home = os.environ.get("GELERT_HOME") or os.path.join(os.path.expanduser("~"), ".gelert")  # noqa: PTH111, PTH118
    return os.path.join(home, "gelert.sock")  # noqa: PTH118


def deadline_seconds() -> float:
    """How long this hook takes at most."""
    try:
        return min(max(float(os.environ["GELERT_HOOK_SECONDS"]), 0.1), DEADLINE_SECONDS)
    except (KeyError, ValueError):
        return DEADLINE_SECONDS


def question(until: float) -> bytes:
    """What the runtime wrote on standard input.

    Raises:
        Fault: it is too long.
    """
    parts: list[bytes] = []
    count = 0
    while part := os.read(0, 1 << 16):
        parts.append(part)
        count += len(part)
        if count > MOST_BYTES or time.monotonic() > until:
            raise Fault(f"expected at most {MOST_BYTES} bytes in time, got {count}")
    return b"".join(parts)


def spoken(asked: bytes) -> bool:
    """Whether a prompt is the user's own words: they are judged with what the agent does about them."""
    prompt = _object(asked).get("prompt")
    return isinstance(prompt, str) and NOTICE not in prompt


def answer(runtime: str, event: str, asked: bytes, until: float) -> bytes:
    """The body of the service's answer.

    Raises:
        Fault: there is no service, or no whole answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(_left(until))
        door.connect(socket_path())
        head = (
            f"POST /v1/hooks/{runtime}?event_name={event} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\nConnection: close\r\n\r\n"
        )
        door.settimeout(_left(until))
        door.sendall(head.encode("ascii") + asked)
        came = bytearray()
        while True:
            door.settimeout(_left(until))
            part = door.recv(1 << 16)
            if not part:
                return _body(bytes(came))
            came += part
            if len(came) > MOST_ANSWER_BYTES:
                raise Fault(f"expected an answer of at most {MOST_ANSWER_BYTES} bytes, got more")


def given(body: bytes) -> tuple[int, str, str]:
    """The exit code, standard output and standard error that the service decided on.

    Raises:
        Fault: it is not an answer of the service's.
    """
    found = json.loads(body)
    if not isinstance(found, dict) or found.get("exit") not in (0, BLOCK):
        raise Fault("expected an answer with an exit code, got another")
    code, out, said = found["exit"], found.get("stdout"), found.get("stderr")
    if not isinstance(out, str) or not isinstance(said, str) or (code == BLOCK and not said.strip()):
        raise Fault("expected an answer with a reason, got none")
    if out and not isinstance(json.loads(out), dict):
        raise Fault("expected output that the runtime reads, got another")
    return code, out, said


def faulted(runtime: str, event: str, asked: bytes, why: str) -> tuple[int, str, str]:
    """What the runtime reads as a block.

    Args:
        runtime: whose hook this is.
        event: at which it was started.
        asked: what the runtime wrote, as far as it came.
        why: no answer was had.
    """
    reason = f"gelert: degraded, blocked without a verdict: {why}"[:REASON_CHARACTERS]
    if event == "MessageDisplay":
        # The only event at which this runtime shows the message whatever the exit code is.
        shown = {"hookEventName": event, "displayContent": f"[withheld] {reason}"}
        return 0, json.dumps({"hookSpecificOutput": shown}), reason
    if event == "UserPromptSubmit":
        return 0, json.dumps(unsaid(reason)), reason
    if event in ("Stop", "SubagentStop") and _object(asked).get("stop_hook_active") is True:
        # This reply was sent back once already; sending it back without end would never end.
        return 0, json.dumps({"continue": False, "stopReason": reason, "systemMessage": reason}), reason
    if event == "PostToolUse" and runtime == "claude-code":
        # Exit code 2 adds the reason to the result there; only this keeps the result itself from the model.
        shown = {"hookEventName": event, "updatedToolOutput": withheld(_object(asked).get("tool_response"), reason)}
        return 0, json.dumps({"decision": "block", "reason": reason, "hookSpecificOutput": shown}), reason
    return BLOCK, "", reason


def unsaid(reason: str) -> dict[str, object]:
    """What keeps a prompt from Claude Code's agent and from its user; exit code 2 would show it to the user."""
    hidden = {"hookEventName": "UserPromptSubmit", "suppressOriginalPrompt": True}
    return {"decision": "block", "reason": reason, "hookSpecificOutput": hidden}


def withheld(result: object, reason: str, depth: int = 0) -> object:
    """A tool's result of the same form (the runtime takes no other) that says only why it is withheld."""
    if depth >= MOST_DEPTH:
        return f"[withheld] {reason}"
    if isinstance(result, dict):
        return {key: value if key == "type" else withheld(value, reason, depth + 1) for key, value in result.items()}
    if isinstance(result, list):
        return [withheld(item, reason, depth + 1) for item in result[:1]]
    return f"[withheld] {reason}" if result is None or isinstance(result, str) else result


def main() -> None:
    """Ask, answer, exit. Nothing that goes wrong may end in another way than ``faulted``."""
    runtime = sys.argv[1] if len(sys.argv) > 1 else ""
    event = sys.argv[2] if len(sys.argv) > 2 else ""
    asked = b""

    def late(*_: object) -> None:
        end(*faulted(runtime, event, asked, "no answer in time"))

    try:
        signal.signal(signal.SIGALRM, late)
        seconds = deadline_seconds()
        signal.setitimer(signal.ITIMER_REAL, seconds)
        until = time.monotonic() + seconds
        asked = question(until)
        if event == "UserPromptSubmit" and spoken(asked):
            end(0, "", "")
        found = given(answer(runtime, event, asked, until))
    except BaseException as fault:  # noqa: BLE001 - whatever it is, the answer is a block
        why = str(fault) if isinstance(fault, Fault) else f"{type(fault).__name__}: {fault}"
        found = faulted(runtime, event, asked, f"{why}; is 'gelert serve' running? (socket {socket_path()})")
    end(*found)


def end(code: int, out: str, said: str) -> None:
    """Write whole or not at all, and leave at once: nothing that Python does at exit may change the code."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        if said:
            _write(2, said + "\n")
        if out:
            _write(1, out + "\n")
    except OSError:
        code = BLOCK
    os._exit(code)


def _write(stream: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(stream, data) :]


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise Fault("no whole answer in time")
    return left


def _body(came: bytes) -> bytes:
    """The body of one HTTP response, if it is whole."""
    head, parted, body = came.partition(b"\r\n\r\n")
    lines = head[:MOST_HEAD_BYTES].decode("latin-1").split("\r\n")
    if not parted or lines[0].split(" ")[:2] != ["HTTP/1.1", "200"]:
        raise Fault(f"expected an answer of the service, got {lines[0][:80]!r}")
    lengths = [line.partition(":")[2].strip() for line in lines[1:] if line.lower().startswith("content-length:")]
    if lengths != [str(len(body))]:
        raise Fault(f"expected a whole answer, got {len(body)} bytes of it")
    return body


def _object(asked: bytes) -> dict[str, object]:
    try:
        found = json.loads(asked)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    main()
