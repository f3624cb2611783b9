"""What an OpenAI-compatible server serves, and adapters that vLLM loads by name while it runs.

An adapter that is loaded is one more model of the server: ``CONTRACT@URL#NAME`` asks it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import httpx

from gelert.backends.http import Endpoint, headers
from gelert.core.errors import BackendError, InputError

LOAD_SECONDS = 300.0
"""A server may fetch the adapter first."""
LARGEST_BODY = 4 * 1024 * 1024
_SHOWN = 400
"""Characters of the server's own words in a message. Nothing that was sent here is a prompt."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server."""

    name: str
    parent: str | None
    """The model that it is an adapter of; None for a model of its own, or if the server does not say."""
    root: str | None
    """Where the server has it from."""
    context: int | None
    """Tokens of prompt and answer together."""


def served(url: str) -> list[Served]:
    """The models of the server at ``url``, which ends with ``/v1``, in its order.

    Raises:
        InputError: the address or the key is wrong.
        BackendError: there is no server, or it answers otherwise than it should.
    """
    status, data = _asked("GET", url, "/models")
    if status != 200:
        raise BackendError(f"expected the list of models from {url}, got {_said(status, data)}")
    body = _json(data)
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise BackendError(f"expected a list 'data' of models from {url}, got something else")
    return [_row(row) for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def load(url: str, name: str, place: str) -> None:
    """Have vLLM load the adapter in ``place`` under a name.

    Args:
        url: of the server, up to and with ``/v1``.
        name: that requests will call it by.
        place: a folder in PEFT's format as the server's machine sees it. One that is also a folder here is sent with
            its whole path.

    Raises:
        InputError: a folder here holds no adapter, or the address or the key is wrong.
        BackendError: there is no such server, or it does not take the adapter.
    """
    here = Path(place)
    if here.is_dir():
        if not (here / "adapter_config.json").is_file():
            raise InputError(f"expected a folder with adapter_config.json, as PEFT writes it, got none in {place}")
        place = str(here.resolve())
    _adapter(url, "load", {"lora_name": name, "lora_path": place})


def unload(url: str, name: str) -> None:
    """Have vLLM forget the adapter of this name.

    Raises:
        InputError: the address or the key is wrong.
        BackendError: there is no such server or adapter.
    """
    _adapter(url, "unload", {"lora_name": name})


def _adapter(url: str, verb: str, told: dict[str, str]) -> None:
    status, data = _asked("POST", url, f"/{verb}_lora_adapter", told)
    if status == 200:
        return
    if status == 405 or (status == 404 and _kind(data) != "NotFoundError"):
        raise BackendError(
            f"expected a vLLM server that {verb}s adapters while it runs, got {status} from {url}; start it with"
            " --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment, and only where those who"
            " reach it are trusted"
        )
    raise BackendError(f"expected {url} to {verb} the adapter {told['lora_name']!r}, got {_said(status, data)}")


def _asked(method: str, url: str, path: str, told: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of one request."""
    endpoint = Endpoint(url, "")  # its checks are those of every address
    timeout = httpx.Timeout(LOAD_SECONDS if told else endpoint.read_seconds, connect=endpoint.connect_seconds)
    known = headers(os.environ.get(endpoint.api_key_env, ""))
    data = bytearray()
    try:
        with (
            httpx.Client(trust_env=False, timeout=timeout, headers=known) as client,
            client.stream(method, url.rstrip("/") + path, json=told) as response,
        ):
            for chunk in response.iter_raw():
                data += chunk
                if len(data) > LARGEST_BODY:
                    raise BackendError(f"expected at most {LARGEST_BODY} bytes from {url}, got more")
            return response.status_code, bytes(data)
    except httpx.HTTPError as fault:
        raise BackendError(f"expected a server at {url}, got {type(fault).__name__}; is it running?") from None


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _error(data: bytes) -> dict[str, object]:
    body = _json(data)
    inner = body.get("error") if isinstance(body, dict) else None
    return inner if isinstance(inner, dict) else {}


def _kind(data: bytes) -> object:
    """What vLLM calls the fault. A path that it does not have is ``Not Found``; a thing, ``NotFoundError``."""
    return _error(data).get("type")


def _said(status: int, data: bytes) -> str:
    message = _error(data).get("message")
    words = " ".join(message.split())[:_SHOWN] if isinstance(message, str) else ""
    return f"{status}: {words}" if words.isprintable() and words else str(status)


def _row(row: dict[str, object]) -> Served:
    parent, root, context = row.get("parent"), row.get("root"), row.get("max_model_len")
    return Served(
        str(row["id"]),
        parent if isinstance(parent, str) else None,
        root if isinstance(root, str) else None,
        context if isinstance(context, int) and not isinstance(context, bool) else None,
    )
