"""One turn of a real runtime with its own settings and a scripted model: a marked tool call, then a marked reply."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gelert.guard.formats.untrusted import Object, as_object, text_at
from gelert.serve.hooks.event import Runtime
from gelert.serve.install import settings
from gelert.serve.runtimes import settings_file
from gelert.serve.scripted_model import Script, playing

SECONDS = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of the run."""

    ran: bool
    """Whether the marked call was carried out."""
    words: str
    """What it showed its user."""


def played(runtime: Runtime, program: Path, home: Path, folder: Path, mark: str, variables: dict[str, str]) -> Shown:
    """Run one turn in ``folder``; what the tool does is write a file there.

    Raises:
        OSError: the runtime cannot be started.
        subprocess.SubprocessError: it does not end.
    """
    work = folder / "work"
    work.mkdir()
    marker = work / "marker"
    with playing(Script(f"echo {mark} > '{marker}'", f"the reply bears {mark}")) as model:
        match runtime:
            case Runtime.CODEX:
                words, own = _codex(program, home, model.url)
            case Runtime.CLAUDE_CODE:
                words, own = _claude(program, home, model.url)
            case Runtime.OPENCLAW:
                words, own = _openclaw(program, home, folder, model.url)
        process = subprocess.Popen(
            words,
            cwd=work,
            env=variables | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
    return Shown(marker.exists(), _words(runtime, out.decode("utf-8", "replace")))


def _words(runtime: Runtime, out: str) -> str:
    """What a person would be shown of the output; Claude Code's lists the calls that were refused, too."""
    if runtime is not Runtime.CLAUDE_CODE:
        return out
    try:
        return text_at(as_object(json.loads(out)), "result")
    except ValueError:
        return out


def _codex(program: Path, home: Path, url: str) -> tuple[list[str], dict[str, str]]:
    provider = f'model_providers.gelert_doctor={{name="gelert",base_url="{url}/v1",wire_api="responses"}}'
    # The one command that can come is the doctor's own, so no sandbox stands between it and the marker.
    chosen = ('model_provider="gelert_doctor"', 'model="scripted"', 'approval_policy="never"')
    options = [word for one in (provider, *chosen, 'sandbox_mode="danger-full-access"') for word in ("-c", one)]
    words = [str(program), "exec", "--json", "--skip-git-repo-check", *options, "gelert doctor"]
    return words, {"CODEX_HOME": str(home)}


def _claude(program: Path, home: Path, url: str) -> tuple[list[str], dict[str, str]]:
    own = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "local", "DISABLE_AUTOUPDATER": "1"}
    own |= {"CLAUDE_CONFIG_DIR": str(home), "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    options = ["--model", "scripted", "--output-format", "json", "--allowedTools", "Bash"]
    # Settings of the user's that name another endpoint would win over the environment.
    options += ["--settings", json.dumps({"env": {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "local"}})]
    return [str(program), "-p", "gelert doctor", *options], own


def _openclaw(program: Path, home: Path, folder: Path, url: str) -> tuple[list[str], dict[str, str]]:
    """With a copy of the settings and a state of its own: the user's sessions stay as they are."""
    model: Object = {"id": "scripted", "name": "scripted", "reasoning": False, "input": ["text"]}
    model |= {"contextWindow": 64_000, "maxTokens": 4_096}
    model |= {"cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}
    provider = {"baseUrl": f"{url}/v1", "apiKey": "local", "api": "openai-completions", "models": [model]}
    found = settings(settings_file(Runtime.OPENCLAW, home))
    found["models"] = {"mode": "merge", "providers": {"gelert-doctor": provider}}
    defaults = {"model": {"primary": "gelert-doctor/scripted"}, "workspace": str(folder / "work")}
    found["agents"] = {"defaults": defaults}
    (folder / "state").mkdir()
    path = folder / "state" / "openclaw.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    own = {"OPENCLAW_STATE_DIR": str(folder / "state"), "OPENCLAW_CONFIG_PATH": str(path), "CI": "1"}
    return [str(program), "agent", "--local", "--session-id", "doctor", "-m", "gelert doctor", "--json"], own
