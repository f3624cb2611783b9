"""The OpenClaw plugin in the node that OpenClaw needs: hooks that OpenClaw lets pass on a fault give a block."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from gelert.serve import install
from gelert.serve.hooks.event import Runtime
from tests.runtimes.guarded import NODE, Place, service
from tests.serve.hooks.support import Behaviour, impostor
from tests.serve.hooks.test_shim import answers, sends
from tests.serve.scripted_guard import MARK

pytestmark = pytest.mark.real_runtime

CTX = {"sessionKey": "main"}
REPLIES: list[tuple[str, str]] = [("reply_payload_sending", "payload"), ("message_sending", "content")]
FAULTS: dict[str, Behaviour] = {
    "closed": lambda _: None,
    "garbage": sends(b"\x00\xff garbage"),
    "half": sends(answers({"decision": "allow", "reason": ""})[:-4]),
    "error": sends(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}"),
    "no decision": sends(answers({"decision": "perhaps", "reason": "x"})),
    "flood": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 999_999),
    "hang": lambda _: time.sleep(60),
}


def event(name: str, text: str) -> dict[str, Any]:
    told = {"payload": {"text": text}} if name == "reply_payload_sending" else {"content": text}
    return {"name": name, "event": told, "ctx": CTX}


def alone(root: Path) -> Place:
    """The plugin without its OpenClaw; skips where the node that runs it is not installed."""
    if not (NODE / "node").exists():
        pytest.skip(f"there is no node at {NODE}; make test-runtimes installs it")
    return Place(Runtime.OPENCLAW, NODE / "node", root)


def drive(place: Place, *events: dict[str, Any]) -> dict[str, Any]:
    """What the handlers gave; the plugin lies beside an OpenClaw, as an installed one does."""
    folder = place.root / "plugin"
    if not folder.exists():
        shutil.copytree(install.plugin_folder(), folder)
        sdk = folder / "node_modules" / "openclaw"
        sdk.mkdir(parents=True)
        # The real SDK's entry gives back what it is given, and takes a minute to load; OpenClaw itself is driven in
        # test_guarded.py.
        exports = {"./plugin-sdk/plugin-entry": "./entry.js"}
        (sdk / "package.json").write_text(json.dumps({"name": "openclaw", "type": "module", "exports": exports}))
        (sdk / "entry.js").write_text("export const definePluginEntry = (entry) => entry;\n")
    words = [str(place.program), "--no-warnings", str(Path(__file__).with_name("drive_plugin.mjs"))]
    done = subprocess.run(
        [*words, str(folder / "index.ts")],
        input=json.dumps(events),
        env=place.variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_replies_are_delivered_when_they_are_safe_and_replaced_when_not(tmp_path: Path) -> None:
    place = alone(tmp_path)
    with service(place):
        calm = [event(name, "done") for name, _ in REPLIES]
        marked = [event(name, f"here is {MARK}") for name, _ in REPLIES]
        done = drive(place, *calm, *marked)
    assert done["given"][:2] == [None, None]
    assert done["given"][2]["payload"]["text"].startswith("[withheld] gelert: blocked: risk 0.99")
    assert done["given"][3]["content"].startswith("[withheld] gelert: blocked: risk 0.99")
    assert {"before_agent_run", "before_tool_call", "agent_end"} <= set(done["names"])


def test_what_is_hidden_in_a_payloads_buttons_is_judged_too(tmp_path: Path) -> None:
    place = alone(tmp_path)
    with service(place):
        told = {"payload": {"text": "press", "presentation": {"buttons": [{"url": MARK}]}}}
        done = drive(place, {"name": "reply_payload_sending", "event": told, "ctx": CTX})
    assert "[withheld]" in done["given"][0]["payload"]["text"]


def test_a_call_is_judged_with_what_came_before_it_in_its_session(tmp_path: Path) -> None:
    place = alone(tmp_path)
    unsafe = {"toolName": "exec", "toolCallId": "c1", "params": {"command": f"echo {MARK}"}}
    calm = {"toolName": "exec", "toolCallId": "c2", "params": {"command": "ls"}}
    with service(place):
        done = drive(
            place,
            {"name": "before_agent_run", "event": {"prompt": "go", "messages": []}, "ctx": CTX},
            {"name": "before_tool_call", "event": calm, "ctx": CTX},
            {"name": "before_tool_call", "event": unsafe, "ctx": CTX},
            {"name": "before_tool_call", "event": calm, "ctx": CTX},
            {"name": "before_tool_call", "event": calm, "ctx": {"sessionKey": "other"}},
        )
    assert done["given"][:2] == [{"outcome": "pass"}, None]
    assert [one and one["block"] for one in done["given"][2:]] == [True, True, None]


@pytest.mark.parametrize("fault", ["down", *FAULTS])
def test_a_fault_of_the_service_blocks_at_every_hook(fault: str, tmp_path: Path) -> None:
    place = alone(tmp_path)
    call = {"name": "before_tool_call", "event": {"toolName": "exec", "toolCallId": "c", "params": {}}, "ctx": CTX}
    begin = {"name": "before_agent_run", "event": {"prompt": "go", "messages": []}, "ctx": CTX}
    asked = [begin, call, *(event(name, "done") for name, _ in REPLIES)]
    if fault == "down":
        done = drive(place, *asked)
    else:
        with impostor(place.socket, FAULTS[fault]):
            done = drive(place, *(asked[2:] if fault == "hang" else asked))
    given = done["given"]
    if fault != "hang":
        assert given[0]["outcome"] == "block"
        assert given[1]["block"] is True
        assert "degraded" in given[1]["blockReason"]
    assert "degraded" in given[-2]["payload"]["text"]
    assert "degraded" in given[-1]["content"]
