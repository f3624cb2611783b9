"""A backend that answers out of a list, a function or a file: for tests, and to replay answers that were kept."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from gelert.backends.base import Answer, Failure, FailureKind, Reply, Request
from gelert.core.errors import InputError

Script = Iterable[Reply | str] | Callable[[Request], Reply | str]
"""Replies in order, or a function from request to reply; a bare text stands for an answer."""


class ScriptedBackend:
    """Answers as it was told to, and keeps what it was asked in ``requests``.

    A list that has run out gives a ``Failure``: it never repeats or makes up an answer.
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        self.name = name
        self.requests: list[Request] = []
        self._function = script if callable(script) else None
        self._replies = iter(()) if callable(script) else iter(tuple(script))
        self._lock = threading.Lock()

    @classmethod
    def read(cls, path: Path) -> Self:
        """A backend that replays a file of JSON Lines, each ``{"text": ..}`` or ``{"failure": .., "kind": ..}``.

        Raises:
            InputError: the file cannot be read, or a line is of another form.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as fault:
            raise InputError(f"expected a readable file of answers, got {fault} ({path})") from None
        replies = [_reply(line, f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        return cls(replies, name=f"scripted:{path.name}")

    @property
    def concurrency(self) -> int:
        """One, for the replies of a list go by the order of the requests."""
        return 1

    def ask(self, request: Request) -> Reply:
        """The next reply of the list, or the function's reply to this request."""
        with self._lock:
            self.requests.append(request)
            reply = self._function(request) if self._function else next(self._replies, _EXHAUSTED)
        return Answer(reply) if isinstance(reply, str) else reply


_EXHAUSTED = Failure("expected another scripted answer, but the script has ended", FailureKind.EXHAUSTED)


class _Line(BaseModel):
    """One reply on disk."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str | None = None
    label_logprobs: dict[str, float] | None = None
    finish_reason: str = "stop"
    failure: str | None = None
    kind: str = FailureKind.UNREACHABLE.value


def _reply(line: str, where: str) -> Reply:
    try:
        row = _Line.model_validate_json(line)
        if (row.text is None) == (row.failure is None):
            raise InputError(f"expected either 'text' or 'failure', got both or neither ({where})")
        if row.failure is not None:
            return Failure(row.failure, FailureKind(row.kind))
    except ValidationError as fault:
        first = fault.errors()[0]
        raise InputError(f"expected a scripted reply, got {first['loc']}: {first['msg']} ({where})") from None
    except ValueError:
        raise InputError(f"expected a kind out of {[k.value for k in FailureKind]} ({where})") from None
    logprobs = tuple(row.label_logprobs.items()) if row.label_logprobs else None
    return Answer(row.text or "", logprobs, row.finish_reason)
