"""The service over HTTP: who may ask, what is answered, and that whatever comes in gets a decided answer."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gelert.core.example import Example
from gelert.guard.formats import read
from gelert.guard.policy import decide
from gelert.serve.audit_check import export
from gelert.serve.engine import Limits
from gelert.serve.judging import surface_of
from gelert.serve.replies import decision_json
from tests.serve.scripted_guard import MARK, Mood, ResumableGuard, ScriptedGuard
from tests.serve.support import CALM, MARKED, Service, service

LOGS = sorted((Path(__file__).parents[2] / "examples/logs").glob("*.jsonl"))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def calm(tmp_path: Path) -> Iterator[Service]:
    """A service whose guard is well."""
    with service(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for properties."""
    with service(tmp_path_factory.mktemp("shared")) as found:
        yield found


def test_a_marked_reply_is_blocked_and_a_calm_one_allowed(calm: Service) -> None:
    assert calm.judge(CALM)["decision"] == "allow"
    unsafe = calm.judge(MARKED)
    assert (unsafe["decision"], unsafe["verdict"], unsafe["degraded"]) == ("block", "unsafe", False)
    assert unsafe["evidence"][0]["pointer"] == "/1"


@pytest.mark.parametrize("path", LOGS, ids=lambda p: p.stem)
def test_the_service_decides_as_the_command_line_does_on_the_same_log(calm: Service, path: Path) -> None:
    (example,) = read(path)
    assert isinstance(example, Example)
    surface = surface_of(example.trajectory)
    expected = decide(ScriptedGuard().judge(example.trajectory), surface)
    for body in (path.read_bytes(), gzip.compress(path.read_bytes())):
        found = calm.judge(body)
        assert {k: found[k] for k in ("decision", "reason", "degraded")} == decision_json(expected)
        assert found["steps"] == len(example.trajectory.steps)


def test_there_are_logs_to_compare_on() -> None:
    assert len(LOGS) >= 10


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b'{"a": 1}', 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 422),
        (b'{"messages": ' + b"[" * 200 + b"]" * 200 + b"}", 422),
        (gzip.compress(b"0" * 30_000_000), 422),
        (json.dumps(CALM).encode() + b"\n{broken\n", 422),
        (b" " * 1_100_000, 413),
    ],
    ids=["empty", "cut", "no steps", "other", "UTF-16", "deep", "nested", "gzip bomb", "bad line", "large"],
)
def test_what_cannot_be_read_is_decided_too_and_on_record(tmp_path: Path, body: bytes, status: int) -> None:
    with service(tmp_path, limits=Limits(deadline_seconds=5.0, max_bytes=1_000_000)) as found:
        response = found.client.post("/v1/judge", content=body)
        assert response.status_code == status
        assert (response.json()["decision"], response.json()["degraded"]) == ("block", True)
        assert found.checked().records == 1


def test_too_many_steps_are_no_verdict(tmp_path: Path) -> None:
    with service(tmp_path, limits=Limits(max_steps=3)) as found:
        assert found.judge(CALM * 2)["degraded"] is True


@pytest.mark.parametrize("mood", [Mood.HANGS, Mood.RAISES, Mood.UNREADABLE])
def test_a_guard_that_fails_shows_in_answer_metrics_and_record(tmp_path: Path, mood: Mood) -> None:
    guard = ScriptedGuard(mood)
    with service(tmp_path, guard, limits=Limits(deadline_seconds=0.5)) as found:
        assert found.judge(CALM)["degraded"] is True
        assert 'degraded="true"' in found.client.get("/metrics").text
        assert found.client.get("/readyz").status_code == (503 if mood is Mood.HANGS else 200)
        assert found.client.get("/healthz").status_code == 200
        guard.release.set()


def test_metrics_are_read_by_prometheus_own_parser(calm: Service) -> None:
    for run in (CALM, MARKED, {"a": 1}):
        calm.judge(run)
    families = {f.name: f for f in text_string_to_metric_families(calm.client.get("/metrics").text)}
    assert sum(sample.value for sample in families["gelert_decisions"].samples) == 3
    assert families["gelert_audit_records"].samples[0].value == 3
    assert families["gelert_faults"].samples[0].labels == {"cause": "asked"}
    counts = [s.value for s in families["gelert_decision_milliseconds"].samples if s.name.endswith("_bucket")]
    assert counts == sorted(counts)
    assert counts[-1] == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer é"}, 401),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8787"}, 403),
        ({"host": "[::1]:8787"}, 200),
        ({"host": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[bad"}, 403),
        ({"origin": "http://127.0.0.1:8787"}, 200),
    ],
)
def test_only_who_has_the_token_and_comes_from_here_is_let_in(
    calm: Service, headers: dict[str, str], status: int
) -> None:
    given_headers = [(k.encode(), v.encode()) for k, v in headers.items()]
    response = calm.client.post("/v1/judge", content=json.dumps(CALM), headers=given_headers)
    assert response.status_code == status
    assert calm.checked().records == (1 if status == 200 else 0)


def test_the_trace_is_given_back_and_recorded_and_rubbish_is_not(calm: Service) -> None:
    for trace in (TRACE, "00-" + "0" * 32 + "-b7ad6b7169203331-01", "rubbish"):
        response = calm.client.post("/v1/judge", content=json.dumps(CALM), headers={"traceparent": trace})
        assert response.headers.get("traceparent") == (TRACE if trace == TRACE else None)
    assert [json.loads(row)["trace"] for row in export(calm.path)] == [TRACE, "", ""]


def test_the_project_is_recorded_and_an_overlong_one_is_refused(calm: Service) -> None:
    assert calm.judge(CALM, project="/home/me/site")["decision"] == "allow"
    assert calm.client.post("/v1/sessions/r/steps?after=0&project=/w", json=CALM).status_code == 200
    assert calm.client.post("/v1/judge", params={"project": "a" * 4_097}, json=CALM).status_code == 422
    assert [json.loads(row)["project"] for row in export(calm.path)] == ["/home/me/site", "/w"]


def test_a_run_grows_step_by_step_and_costs_only_what_is_new(tmp_path: Path) -> None:
    guard = ResumableGuard()
    with service(tmp_path, guard) as found:
        call = {"id": "c1", "function": {"name": "shell", "arguments": "{}"}}
        parts: list[list[dict[str, Any]]] = [
            [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": [call]}],
            [{"role": "tool", "tool_call_id": "c1", "content": "ok"}],
            [{"role": "assistant", "content": MARK}],
        ]
        after, seen = 0, []
        for part in parts:
            answer = found.client.post(f"/v1/sessions/r/steps?after={after}", json=part).json()
            after = answer["steps"]
            seen.append(answer["decision"])
        assert seen == ["allow", "allow", "block"]
        assert (after, guard.read) == (4, 4)
        whole = found.judge([message for part in parts for message in part])
        assert whole["decision"] == "block"


def test_steps_that_do_not_join_on_are_refused_and_nothing_is_kept_of_them(calm: Service) -> None:
    assert calm.client.post("/v1/sessions/r/steps?after=2", json=CALM).status_code == 409
    assert calm.client.post("/v1/sessions/r/steps?after=0", json=CALM).json()["steps"] == 2
    again = calm.client.post("/v1/sessions/r/steps?after=0", json=CALM)
    assert (again.status_code, again.json()["error"]["steps"]) == (409, "2")
    assert calm.client.delete("/v1/sessions/r").json() == {"deleted": True}
    assert calm.client.delete("/v1/sessions/r").status_code == 404


def test_runs_are_bounded_in_number_and_length(tmp_path: Path) -> None:
    limits = replace(Limits(), max_runs=2, max_kept_bytes=60)
    with service(tmp_path, limits=limits) as found:
        status = [found.client.post(f"/v1/sessions/{n}/steps?after=0", json=CALM).status_code for n in range(3)]
        assert status == [200, 200, 409]
        assert found.client.post("/v1/sessions/0/steps?after=2", json=CALM * 5).status_code == 409


@pytest.mark.parametrize("key", ["a" * 129, "%20", "a%2Fb", "é"])
def test_a_runs_id_is_plain(calm: Service, key: str) -> None:
    assert calm.client.post(f"/v1/sessions/{key}/steps?after=0", json=CALM).status_code in (404, 422)


def test_moderations_have_openais_shape(calm: Service) -> None:
    body = calm.client.post("/v1/moderations", json={"input": ["hello", MARK]}).json()
    assert [result["flagged"] for result in body["results"]] == [False, True]
    for result in body["results"]:
        assert result["categories"].keys() == result["category_scores"].keys()
        assert len(result["categories"]) > 20
    part = {"input": [{"type": "text", "text": MARK}]}
    assert calm.client.post("/v1/moderations", json=part).json()["results"][0]["flagged"] is True


def test_a_guard_that_fails_flags(tmp_path: Path) -> None:
    with service(tmp_path, ScriptedGuard(Mood.RAISES)) as found:
        result = found.client.post("/v1/moderations", json={"input": "hello"}).json()["results"][0]
        assert (result["flagged"], result["degraded"]) == (True, True)


@pytest.mark.parametrize("body", [{}, {"input": []}, {"input": 3}, {"input": ["x"] * 33}, [], "x"])
def test_a_moderation_that_is_none_is_refused(calm: Service, body: object) -> None:
    assert calm.client.post("/v1/moderations", json=body).status_code == 422


@pytest.mark.parametrize(
    ("body", "action"),
    [
        ({"input_type": "request", "structured_messages": CALM[:1]}, "NONE"),
        ({"input_type": "request", "texts": ["hello"]}, "NONE"),
        ({"input_type": "request", "structured_messages": MARKED}, "BLOCKED"),
        ({"input_type": "response", "structured_messages": CALM[:1], "texts": ["done"]}, "NONE"),
        ({"input_type": "response", "structured_messages": CALM[:1], "texts": [MARK]}, "BLOCKED"),
        (
            {
                "input_type": "response",
                "texts": [],
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": MARK}}],
            },
            "BLOCKED",
        ),
        ({"input_type": "response", "structured_messages": [{"no": "role"}], "texts": ["done"]}, "BLOCKED"),
    ],
)
def test_litellm_is_told_what_it_understands(calm: Service, body: dict[str, Any], action: str) -> None:
    more = {"litellm_version": "1.109.1", "request_data": {"user_api_key_hash": "x"}, "images": None}
    response = calm.client.post("/beta/litellm_basic_guardrail_api", json=body | more)
    assert response.status_code == 200
    assert response.json()["action"] == action
    assert (action == "NONE") or response.json()["blocked_reason"]


def test_the_openapi_document_names_every_door(calm: Service) -> None:
    paths = calm.client.get("/openapi.json").json()["paths"]
    assert {"/v1/judge", "/v1/sessions/{key}/steps", "/v1/sessions/{key}", "/v1/moderations"} < set(paths)
    assert "/docs" not in paths
    assert calm.client.get("/docs").status_code == 404


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "messages", "type", "input", "tool_calls", "texts", "input_type", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
DOORS = ["/v1/judge", "/v1/sessions/x/steps?after=0", "/v1/moderations", "/beta/litellm_basic_guardrail_api"]


@given(door=st.sampled_from(DOORS), body=JSON_VALUES.map(lambda v: json.dumps(v).encode()) | st.binary(max_size=200))
def test_no_body_is_a_fault_of_the_service(shared: Service, door: str, body: bytes) -> None:
    assert shared.client.post(door, content=body).status_code < 500


def test_the_count_of_records_is_the_count_of_questions(calm: Service) -> None:
    answers = [calm.judge(run) for run in (CALM, MARKED, {"x": 1}) for _ in range(10)]
    assert [a["number"] for a in answers] == list(range(1, 31))
    found = calm.checked()
    assert (found.records, found.faults) == (30, ())
