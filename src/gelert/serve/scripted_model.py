"""A model on loopback that says what it is told to, in the dialects of Codex, Claude Code and OpenClaw.

``gelert doctor`` and the tests drive real runtimes with it: one tool call, then one reply, and another reply once the
guard's reason stands in the conversation.
"""

import itertools
import json
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gelert.guard.formats.untrusted import Object, as_list, as_object, objects, text_at

MOST_BODY_BYTES = 64 << 20
SIGN = "gelert:"
"""How every reason that the guard gives begins; a reply that was sent back shows it."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the model does."""

    command: str
    """Run in the runtime's shell, first of all; empty for none."""
    reply: str
    """Said after the command's result."""
    repaired: str = "revised"
    """Said instead once the guard sent the reply back."""


@dataclass(frozen=True, slots=True)
class Call:
    """Of a tool."""

    tool: str
    arguments: Object
    namespace: str = ""
    """Where Codex keeps a tool that is not at its top."""


class ScriptedModel(ThreadingHTTPServer):
    """Answers for as long as ``playing`` runs; keeps every conversation that it was sent, as text."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.script = script
        self.asked: list[str] = []
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """Where it listens; runtimes want ``/v1`` behind it or not."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def identity(self, prefix: str) -> str:
        """A fresh id: runtimes merge messages that share one."""
        return f"{prefix}_{next(self._numbers):04d}"

    def events(self, path: str, request: Object) -> Iterator[Object] | None:
        """The stream of an answer; None for a path that no dialect has."""
        match path:
            case "/v1/responses":
                return self._responses(request)
            case "/v1/messages":
                return self._messages(request)
            case "/v1/chat/completions":
                return self._chat(request)
            case _:
                return None

    def turn(self, conversation: list[object], results: int, shell: Call) -> Call | str:
        """What comes next: a call, or what to say.

        Args:
            conversation: everything so far.
            results: how many results of tools stand in it.
            shell: the call that runs the script's command in this runtime.
        """
        self.asked.append(json.dumps(conversation, ensure_ascii=False))
        if not results and self.script.command:
            return shell
        replied = [n for n, item in enumerate(conversation) if self.script.reply in json.dumps(item)]
        sent_back = replied and any(SIGN in json.dumps(item) for item in conversation[replied[-1] :])
        return self.script.repaired if sent_back else self.script.reply

    def _responses(self, request: Object) -> Iterator[Object]:
        items = as_list(request.get("input"))
        results = sum(text_at(as_object(item), "type").endswith("call_output") for item in items)
        move = self.turn(items, results, Call("exec_command", {"cmd": self.script.command}))
        response = self.identity("resp")
        yield {"type": "response.created", "response": {"id": response}}
        if isinstance(move, Call):
            ids = {"id": self.identity("fc"), "call_id": self.identity("call")}
            item = {"type": "function_call", "name": move.tool, "arguments": json.dumps(move.arguments), **ids}
            item |= {"namespace": move.namespace} if move.namespace else {}
        else:
            content = [{"type": "output_text", "text": move}]
            item = {"type": "message", "role": "assistant", "id": self.identity("msg"), "content": content}
        yield {"type": "response.output_item.done", "item": item}
        usage = {"input_tokens": 9, "input_tokens_details": None, "output_tokens": 9, "output_tokens_details": None}
        yield {"type": "response.completed", "response": {"id": response, "usage": {**usage, "total_tokens": 18}}}

    def _messages(self, request: Object) -> Iterator[Object]:
        messages = as_list(request.get("messages"))
        parts = [part for message in objects(messages) for part in objects(message.get("content"))]
        move: Call | str = "working on it"
        if any(text_at(tool, "name") == "Bash" for tool in objects(request.get("tools"))):
            shell = Call("Bash", {"command": self.script.command, "description": "Run"})
            move = self.turn(messages, sum(part.get("type") == "tool_result" for part in parts), shell)
        usage: Object = {"input_tokens": 9, "output_tokens": 9}
        head = {"id": self.identity("msg"), "type": "message", "role": "assistant", "model": request.get("model")}
        yield {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": usage}}
        opening: Object = {"type": "text", "text": ""}
        delta: Object = {"type": "text_delta", "text": move}
        if isinstance(move, Call):
            opening = {"type": "tool_use", "id": self.identity("toolu"), "name": move.tool, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(move.arguments)}
        yield {"type": "content_block_start", "index": 0, "content_block": opening}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        stop = {"stop_reason": "tool_use" if isinstance(move, Call) else "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": stop, "usage": usage}
        yield {"type": "message_stop"}

    def _chat(self, request: Object) -> Iterator[Object]:
        messages = as_list(request.get("messages"))
        tools = [text_at(as_object(tool.get("function")), "name") for tool in objects(request.get("tools"))]
        results = sum(message.get("role") == "tool" for message in objects(messages))
        shell = Call("exec", {"command": self.script.command})
        move = self.turn(messages, results, shell) if "exec" in tools else "working on it"
        delta: Object = {"role": "assistant", "content": move}
        if isinstance(move, Call):
            called = {"name": move.tool, "arguments": json.dumps(move.arguments)}
            delta["content"] = None
            delta["tool_calls"] = [{"index": 0, "id": self.identity("call"), "type": "function", "function": called}]
        head: Object = {"id": self.identity("chat"), "object": "chat.completion.chunk", "model": request.get("model")}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        ended = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if isinstance(move, Call) else "stop"}
        yield {**head, "choices": [ended], "usage": usage}


class _Door(BaseHTTPRequestHandler):
    server: ScriptedModel  # pyright: ignore[reportIncompatibleVariableOverride] -- only a ScriptedModel opens it
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's own names
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._reply(200, b"", "text/plain")

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": "scripted", "object": "model"}]}
        known = self.path.split("?")[0] == "/v1/models"
        self._reply(200 if known else 404, json.dumps(models).encode(), "application/json")

    def do_POST(self) -> None:
        length = min(int(self.headers.get("content-length") or 0), MOST_BODY_BYTES)
        request = as_object(json.loads(self.rfile.read(length) or b"{}"))
        path = self.path.split("?")[0]
        if path == "/v1/messages/count_tokens":
            self._reply(200, b'{"input_tokens":10}', "application/json")
        elif (events := self.server.events(path, request)) is None:
            self._reply(404, b"{}", "application/json")
        else:
            self._reply(200, "".join(map(_frame, events)).encode(), "text/event-stream", chat="chat" in path)

    def _reply(self, status: int, body: bytes, kind: str, *, chat: bool = False) -> None:
        body += b"data: [DONE]\n\n" if chat else b""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _frame(event: Object) -> str:
    named = f"event: {event['type']}\n" if "type" in event else ""
    return f"{named}data: {json.dumps(event)}\n\n"


@contextmanager
def playing(script: Script, kind: type[ScriptedModel] = ScriptedModel) -> Generator[ScriptedModel]:
    """The model, listening for as long as the block runs."""
    with kind(script) as model:
        thread = threading.Thread(target=model.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield model
        finally:
            model.shutdown()
            thread.join()
