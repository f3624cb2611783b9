"""Whether an installed guard guards: its settings, its service, and a live run whose call and reply bear a mark.

The runtime that is examined is the real one with the settings that it has; only its model is a scripted one, so the run
costs nothing and asks nobody outside.
"""

import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gelert.core.errors import GelertError
from gelert.guard.formats.untrusted import Object, as_object, objects, text_at
from gelert.serve import codex_trust, install, runtimes
from gelert.serve.doctor_run import played
from gelert.serve.hooks.event import EVENTS, KINDS, Kind, Runtime

ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    sound: bool
    said: str


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined."""

    runtime: Runtime
    home: Path
    """The runtime's own folder."""
    program: Path | None
    socket: Path
    variables: dict[str, str]
    """The environment that the runtime is started in."""


GUARANTEES: dict[Runtime, tuple[str, ...]] = {
    Runtime.CODEX: (
        "tool call: held before it runs, a subagent's too; blocked on any fault, also when Python itself is missing",
        "tool result: the model reads the reason in its place",
        "reply: shown before the guard is asked; it is sent back once, then the turn ends. For a gate use the proxy",
        "subagent: judged by its own log; its reply is sent back once, and reaches its agent the second time",
    ),
    Runtime.CLAUDE_CODE: (
        "tool call: held before it runs, a subagent's too; blocked on any fault (onFailure too)",
        "tool result: the model reads the reason in its place, for tools whose result has texts",
        "reply: withheld from the display; --include-partial-messages streams it before, and the transcript keeps it",
        "subagent: its reply is sent back once; the second time it is kept from its agent if it ran in the background, "
        "else judged as the tool result that it is. --output-format stream-json shows its words before",
    ),
    Runtime.OPENCLAW: (
        "tool call: held before it runs; OpenClaw itself blocks if the plugin fails",
        "tool result: read by the model before the guard is asked; it is judged with the next call or reply",
        "reply: replaced on channels; not on /v1/chat/completions, nor with agent --local, nor for clients of the "
        "gateway: with chat.send they are shown it as it is written",
        "the transcript keeps the original text. For a gate on every path use the proxy",
    ),
}
"""What holds on which path, as measured on the releases of ``gelert.serve.runtimes.TESTED``."""


def examined(patient: Patient) -> Iterator[Finding]:
    """All findings; the live run is left out when the settings or the service are unsound already."""
    sound = True
    for look in (_program, _settings, _trust, _service):
        try:
            for finding in look(patient):
                sound = sound and finding.sound
                yield finding
        except GelertError as fault:
            sound = False
            yield Finding(look.__name__.removeprefix("_"), sound=False, said=str(fault))
    if not sound:
        yield Finding("live run", sound=False, said="left out until what is above is mended")
        return
    yield from _live(patient)


def _program(patient: Patient) -> Iterator[Finding]:
    path = runtimes.program(patient.runtime, patient.program)
    found, tested = runtimes.version(path), runtimes.TESTED[patient.runtime]
    note = "" if tested in found else f"; the guarantees were tested on {tested}"
    yield Finding("program", sound=True, said=f"{path}: {found or 'no version'}{note}")


def _settings(patient: Patient) -> Iterator[Finding]:
    path = runtimes.settings_file(patient.runtime, patient.home)
    found = install.settings(path)
    again = f"run: gelert install {patient.runtime.value}"
    if path.exists() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding("permissions", sound=False, said=f"others may write {path}; run: chmod go-w {path}")
    if found.get("disableAllHooks") is True:
        yield Finding("settings", sound=False, said=f"disableAllHooks is set in {path}; take it out")
    if patient.runtime is Runtime.OPENCLAW:
        change = install.installed(patient.runtime, patient.home)
        said = f"expected the plugin in {path}, got none or an old one; {again}" if change.needed else str(path)
        yield Finding("plugin", sound=not change.needed, said=said)
        return
    for event in EVENTS[patient.runtime]:
        fault = _hook_fault(found, patient.runtime, event)
        yield Finding(f"hook {event}", sound=not fault, said=f"{fault} ({path}); {again}" if fault else str(path))


def _hook_fault(found: Object, runtime: Runtime, event: str) -> str:
    """What is wrong with the hook at an event; nothing if it is as it was installed."""
    groups = objects(as_object(found.get("hooks")).get(event))
    ours = [(group, hook) for group in groups for hook in objects(group.get("hooks")) if install.is_ours(hook)]
    if not ours:
        return f"expected the guard's hook at {event}, got none"
    group, hook = ours[0]
    gone = [word for word in shlex.split(text_at(hook, "command")) if word.startswith("/") and not Path(word).exists()]
    if gone:
        return f"expected the hook's command, got no file at {gone[0]}"
    if group.get("matcher") not in (None, "", "*"):
        return f"expected the hook at {event} for every tool, got the matcher {group['matcher']!r}"
    for key, wanted in install.entry(runtime, event).items():
        if hook.get(key) != wanted:
            return f"expected {key} {wanted!r} at {event}, got {hook.get(key)!r}"
    return ""


def _trust(patient: Patient) -> Iterator[Finding]:
    if patient.runtime is not Runtime.CODEX:
        return
    path = runtimes.program(patient.runtime, patient.program)
    hooks = codex_trust.listed(path, patient.home, patient.home, patient.variables)
    ours = [hook for hook in hooks if install.is_ours({"command": hook.command})]
    if len(ours) < len(EVENTS[Runtime.CODEX]):
        said = f"expected Codex to see {len(EVENTS[Runtime.CODEX])} hooks of the guard, got {len(ours)}"
        yield Finding("trust", sound=False, said=said)
    for hook in ours:
        sound = hook.trust == codex_trust.TRUSTED and hook.enabled
        state = hook.trust if hook.enabled else "switched off"
        mend = (
            "" if sound else "; Codex skips it without a word. Trust it with /hooks, or: gelert install codex --trust"
        )
        yield Finding(f"trust {hook.event}", sound=sound, said=f"{state}{mend}")


def _service(patient: Patient) -> Iterator[Finding]:
    path = patient.socket
    try:
        mode = path.lstat()
    except OSError:
        yield Finding("socket", sound=False, said=f"expected the service at {path}, got nothing; run: gelert serve")
        return
    if not stat.S_ISSOCK(mode.st_mode) or mode.st_uid != os.getuid() or mode.st_mode & 0o077:
        yield Finding("socket", sound=False, said=f"expected a socket that only you open, got another ({path})")
        return
    yield Finding("socket", sound=True, said=str(path))
    with _client(path) as client:
        try:
            ready = client.get("/readyz")
            said = text_at(as_object(as_object(ready.json()).get("error")), "message") or text_at(ready.json(), "guard")
            yield Finding("service", sound=ready.is_success, said=said)
            if fault := text_at(ready.json(), "reason"):
                yield Finding("policy", sound=False, said=f"an older one is followed than was written last: {fault}")
        except (httpx.HTTPError, ValueError) as fault:
            said = f"expected an answer, got {type(fault).__name__} ({path}); restart gelert serve"
            yield Finding("service", sound=False, said=said)


def _live(patient: Patient) -> Iterator[Finding]:
    with _client(patient.socket) as client:
        try:
            mark = text_at(as_object(client.post("/v1/hooks/canaries").json()), "mark")
            with tempfile.TemporaryDirectory(prefix="gelert-doctor-") as folder:
                path = runtimes.program(patient.runtime, patient.program)
                shown = played(patient.runtime, path, patient.home, Path(folder), mark, patient.variables)
            seen = objects(as_object(client.get(f"/v1/hooks/canaries/{mark}").json()).get("seen"))
        except (httpx.HTTPError, ValueError, OSError, subprocess.SubprocessError) as fault:
            yield Finding(
                "live run", sound=False, said=f"expected a run to its end, got {type(fault).__name__}: {fault}"
            )
            return
    yield _stopped(Kind.CALL, seen, ran=shown.ran, why="the marked tool call")
    if patient.runtime is not Runtime.OPENCLAW:
        yield _stopped(Kind.REPLY, seen, ran=False, why="the marked reply")
    if patient.runtime is Runtime.CLAUDE_CODE:
        yield _stopped(Kind.DISPLAY, seen, ran=mark in shown.words, why="the marked message on display")


def _stopped(kind: Kind, seen: list[Object], *, ran: bool, why: str) -> Finding:
    """Whether the guard was asked about the marked thing, and could stop it."""
    asked = [one for one in seen if KINDS.get(text_at(one, "event")) is kind]
    name = f"live {kind.value}"
    if not asked:
        return Finding(name, sound=False, said=f"the guard never saw {why}: the hook does not run")
    if text_at(as_object(asked[0].get("marked")), "decision") == "allow":
        return Finding(name, sound=False, said=f"the guard saw {why} and let it pass: the service only observes")
    if text_at(asked[0], "verdict") == "unreadable":
        return Finding(name, sound=False, said=f"{why} was stopped, but without a verdict: the guard gives none")
    if ran:
        return Finding(name, sound=False, said=f"the guard stopped {why}, and the runtime went on all the same")
    return Finding(name, sound=True, said=f"{why} was seen and stopped")


@contextmanager
def _client(path: Path) -> Generator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=ANSWER_SECONDS) as client:
        yield client
