"""A Telegram of one user on loopback: sends OpenClaw one message, and keeps all that the bot showed the user."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "12345:loopback"
USER = 77
POLL_SECONDS = 0.5
BOT = {"id": 12345, "is_bot": True, "first_name": "Claw", "username": "claw_bot"}
CHAT = {"id": USER, "type": "private", "first_name": "Ann"}
WRITES = ("sendMessage", "editMessageText", "sendMessageDraft", "sendRichMessage", "sendRichMessageDraft")
"""Methods of the Bot API that show a user words."""


class Telegram(ThreadingHTTPServer):
    """Listens where ``channels.telegram.apiRoot`` says."""

    daemon_threads = True

    def __init__(self, message: str) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.called: list[tuple[str, str]] = []
        """Each method of the bot's, and what it was given."""
        self._said = message

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def shown(self) -> list[str]:
        """What the user saw, pieces of a message that is still being written too."""
        return [given for method, given in self.called if method in WRITES]

    def result(self, method: str, given: str) -> Any:
        self.called.append((method, given))
        match method:
            case "getMe":
                return BOT
            case "getUpdates":
                return self._updates()
            case "getWebhookInfo":
                return {"url": "", "has_custom_certificate": False, "pending_update_count": 0}
            case _ if method in WRITES:
                return {"message_id": len(self.called), "date": int(time.time()), "chat": CHAT, "text": "said"}
            case _:
                return True

    def _updates(self) -> list[dict[str, Any]]:
        if not self._said:
            time.sleep(POLL_SECONDS)
            return []
        said, self._said = self._said, ""
        who = {"id": USER, "is_bot": False, "first_name": "Ann"}
        message = {"message_id": 1, "from": who, "chat": CHAT, "date": int(time.time()), "text": said}
        return [{"update_id": 1, "message": message}]


class _Door(BaseHTTPRequestHandler):
    server: Telegram  # pyright: ignore[reportIncompatibleVariableOverride] -- only a Telegram opens it
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's own names
        """Say nothing."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        given = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("utf-8", "replace")
        method = self.path.rpartition("/")[2].partition("?")[0]
        body = json.dumps({"ok": True, "result": self.server.result(method, given)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def telegram(message: str = "hello") -> Generator[Telegram]:
    """It, for as long as the block runs."""
    with Telegram(message) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join()
