"""Several servers behind one port: where episodes live, what a death costs, and the end of all."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gelert.worlds import peers
from gelert.worlds.peers import Answer, BusyError, GoneError, Peer, Question, listen
from gelert.worlds.sharded import Home, Sharded, through
from tests.worlds.serving import Served, replicas

CLEAN = {"task_id": "desk/answer/0/clean"}
READ = {"tool_name": "read_letter", "arguments": {"letter": "l1"}}
SENT = {"tool_name": "send", "arguments": {"to": "Ada", "text": "By Monday."}}


def ask(served: Served, method: str, path: str, body: object = None) -> httpx.Response:
    """Over a connection of its own, so that any replica may take it."""
    return httpx.request(method, served.url + path, json=body, trust_env=False, timeout=30)


def begun(served: Served) -> str:
    return ask(served, "POST", "/episodes/start", CLEAN).json()["episode_id"]


def health(served: Served) -> dict[str, Any]:
    return ask(served, "GET", "/health").json()


def until(found: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_episodes_are_spread_and_each_call_reaches_its_own_over_any_connection(tmp_path: Path) -> None:
    with replicas(tmp_path, 3) as served:
        with httpx.Client(base_url=served.url, trust_env=False) as client:
            keys = [client.post("/episodes/start", json=CLEAN).json()["episode_id"] for _ in range(12)]
        assert Counter(key.split(".")[0] for key in keys) == {"0": 4, "1": 4, "2": 4}
        told = health(served)
        assert (told["status"], told["episodes"], told["tasks"]) == ("ok", 12, 20)
        assert [(row["replica"], row["episodes"]) for row in told["replicas"]] == [(0, 4), (1, 4), (2, 4)]
        for key in keys:
            assert ask(served, "POST", f"/episodes/{key}/tool-call", SENT).json()["result"] == {"sent": "n1"}
        for key in keys:  # each has sent once, so the state is its own
            assert ask(served, "POST", f"/episodes/{key}/tool-call", SENT).json()["result"] == {"sent": "n2"}
            assert ask(served, "DELETE", f"/episodes/{key}").json() == {"deleted": True}
        assert health(served)["episodes"] == 0


def test_a_replica_that_dies_is_started_anew_and_its_episodes_are_said_to_be_lost(tmp_path: Path) -> None:
    with replicas(tmp_path, 2) as served:
        keys = [begun(served) for _ in range(8)]
        lost = [key for key in keys if key.startswith("1.")]
        kept = [key for key in keys if key.startswith("0.")]
        assert lost
        assert kept
        first = health(served)["replicas"][1]["process"]
        os.kill(first, signal.SIGKILL)
        assert served.line().startswith("replica 1 ended with -9; its episodes are lost")
        until(lambda: [row["status"] for row in health(served)["replicas"]] == ["ok", "ok"])
        for key in lost:
            response = ask(served, "POST", f"/episodes/{key}/tool-call", READ)
            assert response.status_code == 410
            assert "replica 1 ended" in response.json()["error"]
        for key in kept:
            assert ask(served, "POST", f"/episodes/{key}/tool-call", READ).json()["ok"]
        assert health(served)["replicas"][1]["process"] != first
        assert {begun(served).rsplit(".", 1)[0] for _ in range(8)} == {"0.0", "1.1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_when_the_parent_ends_all_end(number: signal.Signals, tmp_path: Path) -> None:
    with replicas(tmp_path, 2) as served:
        *_, told = [health(served) for _ in range(4)]  # so that they have asked one another
        processes = [row["process"] for row in told["replicas"]]
        served.process.send_signal(number)
        assert served.process.wait(30) == (-9 if number == signal.SIGKILL else 0)
        until(lambda: not any(map(alive, processes)))
        assert served.process.stderr is not None
        assert number == signal.SIGKILL or served.process.stderr.read() == ""
        with pytest.raises(httpx.ConnectError):
            health(served)


def test_all_together_hold_so_many_episodes_and_no_more(tmp_path: Path) -> None:
    with replicas(tmp_path, 2, "--most", "4") as served:
        codes = [ask(served, "POST", "/episodes/start", CLEAN).status_code for _ in range(6)]
    assert codes == [200] * 4 + [429] * 2


def test_a_port_is_free_again_at_once_and_is_not_shared_with_others(tmp_path: Path) -> None:
    with replicas(tmp_path, 2) as served:
        port = served.url.rpartition(":")[2]
        with httpx.Client(base_url=served.url, trust_env=False) as client:
            client.get("/health")  # a connection that the server closes
            command = [sys.executable, "-m", "gelert.cli.main", "worlds", "serve", "--port", port, "--replicas", "2"]
            out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert out.returncode == 2
            assert f"expected a free port, got Address already in use (127.0.0.1:{port})" in out.stderr
            served.process.terminate()
            served.process.wait(30)
    with replicas(tmp_path, 2, "--port", port) as again:
        assert again.url == served.url


def test_identifiers_begin_with_the_name_of_the_machine_for_a_proxy_to_go_by(tmp_path: Path) -> None:
    with replicas(tmp_path, 2, "--name", "a") as one, replicas(tmp_path, 2, "--name", "b") as other:
        machines = {"a": one, "b": other}
        for name, served in machines.items():
            keys = [begun(served) for _ in range(4)]
            assert {key.split(".")[0] for key in keys} == {name}
            for key in keys:
                right, wrong = machines[key.split(".")[0]], next(m for m in machines.values() if m is not served)
                assert ask(right, "POST", f"/episodes/{key}/tool-call", READ).json()["ok"]
                assert ask(wrong, "POST", f"/episodes/{key}/tool-call", READ).status_code == 404


async def _state(request: Request) -> JSONResponse:
    if request.url.path == "/health":
        return JSONResponse({"status": "ok", "episodes": 1, "tasks": 5})
    body = (await request.body()).decode()
    if body == "fail":
        raise RuntimeError(body)
    return JSONResponse([request.method, request.url.path, str(request.query_params), body], 201)


OWN = Starlette(routes=[Route("/{path:path}", _state, methods=["GET", "POST", "DELETE"])])


def test_a_question_to_a_peer_is_answered_as_over_http_and_a_fault_is_its_own(tmp_path: Path) -> None:
    async def asked() -> list[Answer]:
        server = await listen(tmp_path / "0.sock", Sharded(OWN, Home(0, 0), []).answer)
        peer = Peer(tmp_path / "0.sock")
        questions = [Question("POST", f"/a%20b/{n}?c=%C3%A4", b"x" * 100_000) for n in range(20)]
        found = await asyncio.gather(
            *map(peer.ask, [*questions, Question("DELETE", "/d"), Question("POST", "/e", b"fail")])
        )
        await peer.close()
        server.close()
        return found

    *many, deleted, failed = asyncio.run(asked())
    assert [one.status for one in many] == [201] * 20
    assert many[7].body.startswith(b'["POST","/a b/7","c=%C3%A4","xxx')
    assert deleted == Answer(201, b'["DELETE","/d","",""]')
    assert failed.status == 500


def test_a_peer_that_is_not_there_or_ends_before_it_answers_is_gone(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.close()

    async def asked() -> None:
        peer = Peer(tmp_path / "0.sock")
        with pytest.raises(GoneError):
            await peer.ask(Question("GET", "/"))
        server = await asyncio.start_unix_server(hang_up, str(tmp_path / "0.sock"))
        for _ in range(2):
            with pytest.raises(GoneError):
                await peer.ask(Question("GET", "/"))
        await peer.close()
        server.close()

    asyncio.run(asked())


def test_a_peer_with_too_much_to_do_is_not_asked_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> None:
        free = asyncio.Event()

        async def slow(_question: Question) -> Answer:
            await free.wait()
            return Answer(200, b"{}")

        server = await listen(tmp_path / "0.sock", slow)
        peer = Peer(tmp_path / "0.sock")
        monkeypatch.setattr(peers, "MOST_OUTSTANDING", 3)
        waiting = [asyncio.create_task(peer.ask(Question("GET", "/"))) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError):
            await peer.ask(Question("GET", "/"))
        free.set()
        assert await asyncio.gather(*waiting) == [Answer(200, b"{}")] * 3
        await peer.close()
        server.close()

    asyncio.run(asked())


@given(st.integers(0, 999), st.integers(0, 999), st.sampled_from(["", "a", "7"]), st.text(max_size=12))
def test_an_identifier_says_where_its_episode_lives(replica: int, generation: int, machine: str, key: str) -> None:
    home = Home(replica, generation, machine)
    assert Home.of(f"/episodes/{home.prefix}{key}/tool-call", machine) == home
    assert Home.of(f"/episodes/{home.prefix}{key}/tool-call", "other") is None


@given(st.text(max_size=30))
def test_no_path_makes_the_reader_of_identifiers_raise(text: str) -> None:
    assert Home.of(text) is None
    found = Home.of("/episodes/" + text)
    assert found is None or (found.replica >= 0 and found.generation >= 0)


def test_what_peers_ask_one_another_cannot_be_asked_over_http() -> None:
    sharded = Sharded(Starlette(), Home(0, 0), [])
    assert asyncio.run(through(sharded, Question("GET", "/replica"))).status == 404
