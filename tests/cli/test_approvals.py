"""``gelert approvals`` as a person uses it beside a running service."""

import json
from pathlib import Path

import httpx
import pytest

from tests.cli.test_serve import Started, gelert, started

POLICY = '[[rule]]\nwhen = "tool outside [read]"\nthen = "ask"\n'


def calls(service: Started, command: str = "ls") -> str:
    """What is decided about a call of the agent's."""
    call = {"id": "c1", "function": {"name": "exec", "arguments": json.dumps({"command": command})}}
    run = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(service.socket)), timeout=60) as client:
        return client.post("http://any/v1/judge?project=/w", json=run).json()["decision"]


def waiting(home: Path) -> str:
    """The id of the one call that waits."""
    rows = [json.loads(line) for line in gelert("approvals", "list", "--json", home=home).stdout.splitlines()]
    (name,) = [row["id"] for row in rows if row["state"] == "waiting"]
    return name


def test_a_person_lists_allows_blocks_and_forgets_and_a_remembered_answer_outlives_a_restart(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    with started(tmp_path, "--policy", str(policy)) as service:
        assert calls(service) == "ask"
        shown = gelert("approvals", home=tmp_path).stdout
        assert "exec  in /w, api" in shown
        assert "the policy's rule 'tool outside [read]'\n    command: ls" in shown
        assert gelert("approvals", "allow", waiting(tmp_path), home=tmp_path).returncode == 0
        assert [calls(service), calls(service)] == ["allow", "ask"]
        name = waiting(tmp_path)
        assert "from now on" in gelert("approvals", "block", name, "--remember", home=tmp_path).stdout
        assert calls(service) == "block"
    with started(tmp_path, "--policy", str(policy)) as service:
        assert calls(service) == "block"
        assert "always block  exec  in /w" in gelert("approvals", "list", home=tmp_path).stdout
        assert gelert("approvals", "forget", name, home=tmp_path).returncode == 0
        assert calls(service) == "ask"
        gelert("approvals", "allow", waiting(tmp_path), home=tmp_path)
        assert "no call waits" in gelert("approvals", home=tmp_path).stdout
        for words in (("allow", "x"), ("forget", name), ("block", "../approvals")):
            unknown = gelert("approvals", *words, home=tmp_path)
            assert (unknown.returncode, "gelert approvals list" in unknown.stderr) == (2, True)


@pytest.mark.parametrize("words", [(), ("allow", "x"), ("forget", "x")])
def test_without_a_service_it_says_what_to_start(tmp_path: Path, words: tuple[str, ...]) -> None:
    out = gelert("approvals", *words, home=tmp_path)
    assert out.returncode == 2
    assert "run gelert serve" in out.stderr
