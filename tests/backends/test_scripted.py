"""The scripted backend is strict: it repeats nothing and makes nothing up."""

from pathlib import Path

import pytest

from gelert.backends.base import Answer, Failure, FailureKind, Message, Request
from gelert.backends.scripted import ScriptedBackend
from gelert.core.errors import InputError

REQUEST = Request((Message("user", "?"),), max_tokens=1)


def test_a_script_that_has_ended_fails() -> None:
    backend = ScriptedBackend(["one"])
    assert backend.ask(REQUEST) == Answer("one")
    reply = backend.ask(REQUEST)
    assert isinstance(reply, Failure)
    assert reply.kind == FailureKind.EXHAUSTED


def test_what_was_asked_is_kept() -> None:
    backend = ScriptedBackend(lambda request: request.messages[0].content)
    backend.ask(REQUEST)
    assert backend.requests == [REQUEST]


def test_a_file_of_answers_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(
        '{"text": "safe", "label_logprobs": {"safe": -0.1, "unsafe": -2.3}}\n\n'
        '{"text": "uns", "finish_reason": "length"}\n{"failure": "down", "kind": "timeout"}\n'
    )
    backend = ScriptedBackend.read(path)
    assert [backend.ask(REQUEST) for _ in range(3)] == [
        Answer("safe", (("safe", -0.1), ("unsafe", -2.3))),
        Answer("uns", finish_reason="length"),
        Failure("down", FailureKind.TIMEOUT),
    ]


@pytest.mark.parametrize(
    "line",
    ["nonsense", "{}", '{"text": 3}', '{"text": "a", "failure": "b"}', '{"failure": "x", "kind": "y"}', '{"tex": ""}'],
)
def test_a_line_of_another_form_is_an_error_that_names_it(line: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"text": "safe"}\n' + line)
    with pytest.raises(InputError, match="line 2"):
        ScriptedBackend.read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        ScriptedBackend.read(tmp_path / "none.jsonl")
