"""The folder that an agent works in, as a request through the proxy names it: for the engine, and no further."""

import json
from pathlib import Path

import pytest

from gelert.serve.asked import MOST_PROJECT_CHARACTERS
from gelert.serve.audit_check import export
from tests.serve.proxy.wire import PATHS, Scripted, asks, proxied, recorded
from tests.serve.scripted_guard import ScriptedGuard


@pytest.mark.parametrize(
    ("told", "project"),
    [
        ({"x_gelert_project": "/home/me/site"}, "/home/me/site"),
        ({"x_gelert_project": "/home/zoë"}, "/home/zoë"),
        ({"x_gelert_project": "/" + "a" * MOST_PROJECT_CHARACTERS}, ""),
        ({}, ""),
    ],
)
def test_the_project_is_on_record_and_stays_here(tmp_path: Path, told: dict[str, str], project: str) -> None:
    upstream = Scripted([recorded("chat_reply")])
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        for headers in (told, {}):
            assert client.post(PATHS["chat"], asks("chat"), **headers).status == 200
    assert [json.loads(row)["project"] for row in export(tmp_path / "audit.db")] == [project, ""]
    assert [name for _, headers, _ in upstream.asked for name in headers if "gelert" in name] == []
