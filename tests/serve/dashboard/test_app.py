"""What the dashboard's page asks for: who may ask, what is told, and how much of it."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gelert.serve.dashboard import page
from gelert.serve.dashboard.view import SHOWN_CHARACTERS
from gelert.serve.engine import Limits
from tests.serve.dashboard.support import HOSTILE, SECRET, call, judge, result, user, watched
from tests.serve.scripted_guard import MARK, Mood, ScriptedGuard
from tests.serve.support import CALM, MARKED


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with watched(tmp_path) as found:
        yield found


def rows(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    return client.get("/v1/decisions", params=query).json()["decisions"]


def test_the_page_needs_no_token_and_all_that_it_shows_does(client: TestClient) -> None:
    judge(client, CALM)
    client.headers.pop("authorization")
    assert client.get("/dashboard").status_code == 200
    asked = [("GET", "/v1/decisions"), ("GET", "/v1/decisions/1"), ("GET", "/v1/labels")]
    asked += [("POST", "/v1/decisions/1/label"), ("DELETE", "/v1/decisions/1/label")]
    assert [client.request(*one).status_code for one in asked] == [401] * 5


def test_the_pages_headers_let_nothing_in_but_the_page_itself(client: TestClient) -> None:
    headers = client.get("/dashboard").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy[kind])
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_the_page_is_small_and_holds_no_markup_from_texts_no_handlers_and_no_addresses_elsewhere() -> None:
    text = page.text()
    assert len(text.encode()) < 60_000
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage", text)
    assert not re.findall(r"<[a-z][^>]*\son[a-z]+=", text)
    assert set(re.findall(r"https?://[^\s'\"]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_row_says_who_asked_what_was_decided_and_how_long_it_took(client: TestClient) -> None:
    judge(client, MARKED, runtime="codex", session="s1", project="/home/me/shop")
    (row,) = rows(client)
    assert {k: row[k] for k in ("id", "surface", "decision", "verdict", "risk", "degraded", "steps", "record")} == {
        "id": 1, "surface": "reply", "decision": "block", "verdict": "unsafe", "risk": 0.99, "degraded": False,
        "steps": 2, "record": 1,
    }  # fmt: skip
    assert (row["runtime"], row["project"], row["title"]) == ("codex", "/home/me/shop", f"here: {MARK}")
    assert row["milliseconds"] > 0


def test_a_row_does_not_hide_a_second_call_behind_the_first(client: TestClient) -> None:
    both = call("ls") | {"tool_calls": [*call("ls")["tool_calls"], *call("rm", "c2")["tool_calls"]]}
    judge(client, [user("go"), both])
    assert rows(client)[0]["tool"] == "ls +1"


def test_one_decision_is_told_with_its_steps_and_the_evidence(client: TestClient) -> None:
    judge(client, [user("go"), call("shell", command="ls"), result("a.txt"), call("shell", "c2", command=MARK)])
    told = client.get("/v1/decisions/1").json()
    assert [step["role"] for step in told["shown"]] == ["user", "agent", "tool", "agent"]
    assert told["shown"][2]["tool"] == "shell"
    assert told["shown"][1]["calls"] == [
        {"tool": "shell", "arguments": [{"text": "command: ls", "more": 0}], "more_arguments": 0}
    ]
    assert told["evidence"] == [{"step": 3, "weight": 0.9}]
    assert told["label"] is None


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ('{"a": 1, "b": {"c": [2]}}', ["a: 1", 'b: {"c": [2]}']),
        ('{"a": "safe", "a": "rm"}', ['{"a": "safe", "a": "rm"}']),
        ("ls -l", ["ls -l"]),
        ("[" * 50_000, ["[" * SHOWN_CHARACTERS + "…"]),
        ("{}", ["{}"]),
    ],
    ids=["object", "key twice", "text", "deep", "empty"],
)
def test_arguments_are_told_one_a_line_if_nobody_can_take_them_in_two_ways(
    client: TestClient, arguments: str, lines: list[str]
) -> None:
    function = {"name": "shell", "arguments": arguments}
    judge(client, [user("go"), {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": function}]}])
    (told,) = client.get("/v1/decisions/1").json()["shown"][1]["calls"]
    assert [line["text"] for line in told["arguments"]] == lines


@pytest.mark.parametrize("number", ["2", "0", "-1", "x", str(2**60)])
def test_a_decision_that_is_not_there_is_said_not_to_be(client: TestClient, number: str) -> None:
    judge(client, CALM)
    assert client.get(f"/v1/decisions/{number}").status_code in (404, 422)


def test_secrets_are_in_no_answer(client: TestClient) -> None:
    judge(client, HOSTILE, project=f"/home/me/{SECRET}")
    assert SECRET not in client.get("/v1/decisions").text
    told = client.get("/v1/decisions/1").text
    assert SECRET not in told
    assert "[redacted]" in told


def test_what_could_not_be_judged_is_there_too_and_says_why(tmp_path: Path) -> None:
    with watched(tmp_path, ScriptedGuard(Mood.RAISES)) as client:
        judge(client, CALM)
        client.post("/v1/judge", content=b"{")
        assert [(row["degraded"], row["verdict"]) for row in rows(client)] == [(True, "unreadable")] * 2
        first, second = (client.get(f"/v1/decisions/{n}").json() for n in (1, 2))
        assert "RuntimeError" in first["why"]
        assert (second["shown"], second["steps"]) == (None, 0)


def test_a_long_run_is_shown_by_its_ends_and_its_evidence_and_a_long_text_is_cut(tmp_path: Path) -> None:
    turns = [user(f"turn {n} {'x' * 3_000}") for n in range(4_000)]
    turns[2_000] = {"role": "assistant", "content": MARK}
    with watched(tmp_path, limits=Limits(deadline_seconds=30.0)) as client:
        judge(client, turns)
        response = client.get("/v1/decisions/1")
        told = response.json()
        places = [step["step"] for step in told["shown"]]
        assert {0, 1, 1_999, 2_000, 2_001, 3_999} <= set(places)
        assert len(places) < 200
        assert len(response.content) < 2_000_000
        assert told["shown"][0]["text"]["more"] > 1_000


def test_the_list_goes_on_from_where_it_was(client: TestClient) -> None:
    for _ in range(5):
        judge(client, CALM)
    assert [row["id"] for row in rows(client, after=3)] == [4, 5]
    assert [row["id"] for row in rows(client, after=1, limit=2)] == [2, 3]
    assert rows(client, after=99) == []


def test_who_waits_hears_of_the_next_decision_at_once(client: TestClient) -> None:
    judge(client, CALM)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rows, client, after=1, wait=5)
        time.sleep(0.2)
        assert not asked.done()
        start = time.monotonic()
        judge(client, MARKED)
        assert [row["id"] for row in asked.result()] == [2]
        assert time.monotonic() - start < 2


def test_how_the_service_is_comes_with_every_answer(tmp_path: Path) -> None:
    guard = ScriptedGuard(Mood.HANGS)
    with watched(tmp_path, guard, Limits(deadline_seconds=0.5)) as client:
        assert client.get("/v1/decisions").json()["health"]["degraded"] == ""
        judge(client, CALM)
        assert "restart the service" in client.get("/v1/decisions").json()["health"]["degraded"]
        guard.release.set()
