"""A policy by project, as it is checked, tried and followed; and a broken file that everybody is told of."""

import json
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.test_serve import Started, gelert, started

POLICY = """
[tool_call]
block_at = 0.0
[[rule]]
when = "tool outside [exec, read]"
[[project]]
path = "/home/me/site"
allow = ["exec", "mail"]
[project.reply]
mode = "observe"
"""
LOG = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "exec", "arguments": "{}"}}]},
]


def client(service: Started) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(service.socket)), base_url="http://any", timeout=60)


def called(http: httpx.Client, tool: str, project: str) -> str:
    """What is decided about a call, by the hook of a runtime that works in a project."""
    told = {"hook_event_name": "PreToolUse", "session_id": "s", "cwd": project, "tool_name": tool, "tool_input": {}}
    return "block" if http.post("/v1/hooks/codex", json=told).json()["exit"] == 2 else "allow"


def test_check_shows_the_projects_and_what_is_different_there(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    out = gelert("policy", "check", str(path), home=tmp_path)
    shown = out.stdout.splitlines()
    at = shown.index("project /home/me/site: allow exec, mail")
    assert shown[at + 1] == "  reply: observe, block at what the guard calls unsafe, without a verdict block"
    assert all(line.startswith("  reply in ") for line in shown[at + 2 :])


@pytest.mark.parametrize(("project", "counted"), [("/home/me/site/src", "1 allow, 0 ask, 0 block"), ("/", "1 block")])
def test_a_log_is_tried_as_in_a_project(tmp_path: Path, project: str, counted: str) -> None:
    path, log, answers = (tmp_path / name for name in ("policy.toml", "run.json", "answers.jsonl"))
    path.write_text(POLICY)
    log.write_text(json.dumps(LOG))
    answers.write_text('{"text": "safe"}\n')
    guard = f"agentdog-1.0-coarse@recorded:{answers}"
    out = gelert("policy", "test", str(path), str(log), "--guard", guard, "--project", project, home=tmp_path)
    assert counted in out.stdout, out.stderr


def test_a_project_frees_a_call_from_its_risk_and_a_broken_file_shows_wherever_one_looks(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    with started(tmp_path, "--policy", str(path)) as service, client(service) as http:
        places = ["/home/me/site", "/home/me/site/src", "/home/me", "/home/me/site2"]
        assert [called(http, "exec", place) for place in places] == ["allow", "allow", "block", "block"]
        assert called(http, "mail", "/home/me/site") == "block"
        assert http.get("/readyz").json()["status"] == "ready"
        assert followed(http) == 1

        path.write_text("[tool_cal]\n")
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "tool_cal" in ready.json()["reason"]
        assert followed(http) == 0
        assert called(http, "exec", "/home/me/site") == "allow"
        doctor = gelert("doctor", "codex", "--home", str(tmp_path / "codex"), home=tmp_path)
        assert "FAULT policy: an older one is followed" in doctor.stdout
        assert doctor.returncode == 1

        path.write_text(POLICY)
        assert http.get("/readyz").json()["status"] == "ready"
        assert followed(http) == 1


def followed(http: httpx.Client) -> float:
    families = {one.name: one for one in text_string_to_metric_families(http.get("/metrics").text)}
    return families["gelert_policy_followed"].samples[0].value
