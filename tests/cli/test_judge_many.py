"""`gelert judge` on many runs through a vLLM server: as many at once as it is told, read as they are needed."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import Door, Loopback, loopback, says
from tests.scripted_vllm import ScriptedVllm
from tests.serve.proxy.wire import listening

__all__ = ["loopback"]


def run_of(number: int) -> dict[str, Any]:
    deed = '{"name": "shell", "arguments": {"cmd": "rm -r /data"}}' if number % 3 == 0 else "{}"
    turn = [{"role": "user", "content": f"task {number}"}, {"role": "agent", "action": deed}]
    return {"id": number, "label": 0, "contents": [turn]}


def runs(folder: Path, count: int) -> Path:
    path = folder / "runs.jsonl"
    path.write_text("\n".join(json.dumps(run_of(number)) for number in range(count)))
    return path


def judging(*words: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "gelert.cli.main", "judge", *map(str, words), "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    return folder


def test_an_adapter_that_is_loaded_by_name_judges_so_many_runs_at_once_in_their_order(tmp_path: Path) -> None:
    vllm = ScriptedVllm(seconds=0.1)
    with listening(vllm.app()) as port:
        url = f"http://127.0.0.1:{port}/v1"
        load = [sys.executable, "-m", "gelert.cli.main", "model", "load", url, "contrary"]
        subprocess.run([*load, adapter(tmp_path / "contrary")], check=True, capture_output=True)
        guard = f"agentdog-1.0-coarse@{url}#contrary"
        out, err = judging(runs(tmp_path, 40), "--guard", guard, "--at-once", "16").communicate(timeout=60)
    rows = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [row["record"] for row in rows] == list(range(40))
    assert [row["verdict"] for row in rows] == ["safe" if n % 3 == 0 else "unsafe" for n in range(40)]
    assert [row["risk"] for row in rows] == pytest.approx([0.2 if n % 3 == 0 else 0.9 for n in range(40)])
    assert 3 < vllm.most_under_way <= 16


def test_runs_are_read_as_they_are_needed_and_judged_before_the_last_is_there(tmp_path: Path) -> None:
    with listening(ScriptedVllm().app()) as port:
        guard = f"agentdog-1.0-coarse@http://127.0.0.1:{port}/v1#base"
        with judging(runs(tmp_path, 20), "-", "--guard", guard, "--at-once", "2") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            first = [process.stdout.readline() for _ in range(12)]
            process.stdin.write(json.dumps(run_of(20)))
            process.stdin.close()
            rows = [json.loads(line) for line in [*first, *process.stdout]]
    assert [row["verdict"] for row in rows] == ["unsafe" if n % 3 == 0 else "safe" for n in range(21)]


def test_stopping_loses_no_verdict_that_was_printed_and_leaves_no_half_line(tmp_path: Path, loopback: Loopback) -> None:
    come, stopped = threading.Semaphore(0), threading.Event()

    def behave(door: Door) -> None:
        if b"task 6" in door.body or b"task 7" in door.body:
            come.release()
            stopped.wait(20)
        says("safe")(door)

    loopback.script = [behave]
    guard = f"agentdog-1.0-coarse@{loopback.url}#base"
    with judging(runs(tmp_path, 12), "--guard", guard, "--at-once", "2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = [process.stdout.readline() for _ in range(6)]
        assert come.acquire(timeout=20)
        process.send_signal(signal.SIGINT)
        stopped.set()
        rest, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "stopped" in err
    assert [json.loads(line)["record"] for line in [*first, *rest.splitlines()]] == list(
        range(6 + len(rest.splitlines()))
    )


@pytest.mark.parametrize("guard", [(), ("--guard", "agentdog-1.0-coarse@recorded:answers.jsonl")], ids=["own", "kept"])
def test_how_many_at_once_is_asked_of_endpoints_only(guard: tuple[str, ...], tmp_path: Path) -> None:
    process = judging(runs(tmp_path, 3), *guard, "--at-once", "4")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--at-once" in err


def test_a_path_that_is_not_there_is_told_before_anything_is_judged(tmp_path: Path) -> None:
    process = judging(
        runs(tmp_path, 3), tmp_path / "absent.json", "--guard", "agentdog-1.0-coarse@http://127.0.0.1:9/v1#m"
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "does not exist" in err
