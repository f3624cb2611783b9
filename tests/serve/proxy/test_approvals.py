"""A call that the proxy refused passes once a person has allowed it, in the project in which it was asked about."""

from pathlib import Path

import httpx

from gelert.guard.policy import Policy, Rule
from tests.serve.proxy.wire import PATHS, Client, Scripted, asks, proxied, recorded
from tests.serve.scripted_guard import ScriptedGuard

ASKS = Policy(tool_call=Rule(ask_at=0.005))
"""The scripted guard's risk is 0.01 where there is no mark."""


def decided(client: Client, project: str) -> str:
    return client.post(PATHS["chat"], asks("chat"), x_gelert_project=project).headers["x-gelert-decision"]


def test_an_allowed_call_is_released_once_and_in_its_project_alone(tmp_path: Path) -> None:
    with proxied(tmp_path, Scripted([recorded("chat_calls")]), ScriptedGuard(), policy=ASKS) as client:
        assert "gelert approvals" in client.post(PATHS["chat"], asks("chat"), x_gelert_project="/w").body.decode()
        url, token = f"http://127.0.0.1:{client.port}/v1/approvals", {"authorization": f"Bearer {'t' * 32}"}
        (waits,) = httpx.get(url, headers=token).json()["waiting"]
        assert (waits["runtime"], waits["project"]) == ("proxy", "/w")
        said = httpx.post(f"{url}/{waits['id']}", json={"answer": "allow"}, headers=token)
        assert said.json() == {"answered": True}
        assert [decided(client, project) for project in ("/x", "/w", "/w")] == ["ask", "allow", "ask"]
