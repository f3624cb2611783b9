"""``gelert serve`` and ``gelert audit`` as a user runs them: a real process, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

RUN = json.dumps([{"role": "user", "content": "tidy up"}, {"role": "assistant", "content": "done"}])


@dataclass
class Started:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    home: Path
    url: str

    @property
    def socket(self) -> Path:
        return self.home / "gelert.sock"

    def ask(self, count: int) -> list[int]:
        """The numbers of so many decisions."""
        token = (self.home / "token").read_text().strip()
        with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
            return [client.post(f"{self.url}/v1/judge", content=RUN).json()["number"] for _ in range(count)]


def gelert(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gelert.cli.main", *words],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "GELERT_HOME": str(home), "GELERT_SOCKET": str(home / "gelert.sock")}


@contextmanager
def started(home: Path, *options: str) -> Generator[Started]:
    """A service whose guard replays answers; killed at the end if it is still there."""
    answers = home / "answers.jsonl"
    home.mkdir(exist_ok=True)
    answers.write_text('{"text": "safe"}\n' * 5000)
    words = ["serve", "--port", "0", "--guard", f"agentdog-1.0-coarse@recorded:{answers}", *options]
    command = [sys.executable, "-m", "gelert.cli.main", *words]
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = "".join(process.stdout.readline() for _ in range(4))
            url = next(word for word in said.split() if word.startswith("http://"))
            wait_for(url)
            yield Started(process, home, url)
        finally:
            process.kill()


def wait_for(url: str) -> None:
    for _ in range(1200):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"expected a service on {url} within a minute")


def test_no_record_is_lost_when_the_service_is_killed_and_started_again(tmp_path: Path) -> None:
    numbers: list[int] = []
    for _ in range(2):
        with started(tmp_path) as service:
            numbers += service.ask(15)
            service.process.send_signal(signal.SIGKILL)
            service.process.wait()
    assert numbers == list(range(1, 31))
    verified = gelert("audit", "verify", home=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert "30 records" in verified.stdout
    exported = gelert("audit", "export", home=tmp_path).stdout.splitlines()
    assert [json.loads(line)["number"] for line in exported] == numbers


def test_sigterm_answers_what_was_asked_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path) as service, ThreadPoolExecutor(8) as pool:
        before = service.ask(1)
        asked = [pool.submit(service.ask, 1) for _ in range(8)]
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
        got = [one.result() for one in asked if one.exception() is None]
    assert not service.socket.exists()
    assert f"{len(before) + len(got)} records" in gelert("audit", "verify", home=tmp_path).stdout


def test_the_unix_socket_is_its_owners_and_needs_no_token(tmp_path: Path) -> None:
    with started(tmp_path) as service:
        assert service.socket.stat().st_mode & 0o177 == 0
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(service.socket)), timeout=60) as client:
            assert client.post("http://any/v1/judge", content=RUN).json()["decision"] == "allow"
        assert httpx.post(f"{service.url}/v1/judge", content=RUN).status_code == 401


def test_a_second_service_says_that_there_is_one_already(tmp_path: Path) -> None:
    with started(tmp_path):
        second = gelert("serve", "--port", "0", home=tmp_path)
    assert second.returncode == 2
    assert "one listens" in second.stderr


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 43)
    (tmp_path / "token").chmod(0o644)
    out = gelert("serve", "--port", "0", home=tmp_path)
    assert (out.returncode, "chmod 600" in out.stderr) == (2, True)


def test_verify_without_a_file_says_what_to_do(tmp_path: Path) -> None:
    out = gelert("audit", "verify", home=tmp_path)
    assert out.returncode == 2
    assert "gelert serve" in out.stderr or "--audit-key" in out.stderr


def test_a_policy_file_is_followed_and_read_again_when_it_changes(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[reply]\nblock_at = 0.0\n")
    with (
        started(tmp_path, "--policy", str(policy)) as service,
        httpx.Client(transport=httpx.HTTPTransport(uds=str(service.socket)), timeout=60) as client,
    ):
        assert client.post("http://any/v1/judge", content=RUN).json()["decision"] == "block"
        policy.write_text("[reply]\nblock_at = 0.9\n")
        assert client.post("http://any/v1/judge", content=RUN).json()["decision"] == "allow"
