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
"""For everything; above the service's own deadline and below the one that ``gelert install`` writes for the runtime."""
MOST_BYTES = 16 << 20
"""Of what the runtime sends."""
MOST_ANSWER_BYTES = 48 << 10
"""Of what the service answers; a pipe takes as much at once, so a runtime that does not read cannot hold this up."""
MOST_HEAD_BYTES = 16 << 10
REASON_CHARACTERS = 2_000
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


def answer(runtime: str, asked: bytes, until: float) -> bytes:
    """The body of the service's answer.

    Raises:
        Fault: there is no service, or no whole answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(_left(until))
        door.connect(socket_path())
        head = (
            f"POST /v1/hooks/{runtime} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(asked)}\r\nConnection: close\r\n\r\n"
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


def faulted(runtime: str, event: str, again: bool, why: str) -> tuple[int, str, str]:  # noqa: FBT001 - as it came
    """What the runtime reads as a block.

    Args:
        runtime: whose hook this is.
        event: at which it was started.
        again: whether the reply in question was already asked for anew; asking without end would never end.
        why: no answer was had.
    """
    reason = f"gelert: degraded, blocked without a verdict: {why}"[:REASON_CHARACTERS]
    if event == "MessageDisplay":
        # The only event at which this runtime shows the message whatever the exit code is.
        shown = {"hookEventName": event, "displayContent": f"[withheld] {reason}"}
        return 0, json.dumps({"hookSpecificOutput": shown}), reason
    if again and event == "Stop":
        return 0, json.dumps({"continue": False, "stopReason": reason, "systemMessage": reason}), reason
    if event == "PostToolUse" and runtime == "claude-code":
        withheld = {"hookEventName": event, "updatedToolOutput": f"[withheld] {reason}"}
        return 0, json.dumps({"decision": "block", "reason": reason, "hookSpecificOutput": withheld}), reason
    return BLOCK, "", reason


def main() -> None:
    """Ask, answer, exit. Nothing that goes wrong may end in another way than ``faulted``."""
    runtime = sys.argv[1] if len(sys.argv) > 1 else ""
    event = sys.argv[2] if len(sys.argv) > 2 else ""
    asked = b""

    def late(*_: object) -> None:
        end(*faulted(runtime, event, _again(asked), f"no answer within {DEADLINE_SECONDS:g} s"))

    try:
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)
        until = time.monotonic() + DEADLINE_SECONDS
        asked = question(until)
        found = given(answer(runtime, asked, until))
    except BaseException as fault:  # noqa: BLE001 - whatever it is, the answer is a block
        why = str(fault) if isinstance(fault, Fault) else f"{type(fault).__name__}: {fault}"
        found = faulted(runtime, event, _again(asked), f"{why}; is 'gelert serve' running? (socket {socket_path()})")
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
        raise Fault(f"no whole answer within {DEADLINE_SECONDS:g} s")
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


def _again(asked: bytes) -> bool:
    try:
        return json.loads(asked).get("stop_hook_active") is True
    except (ValueError, AttributeError, RecursionError):
        return False


if __name__ == "__main__":
    main()
