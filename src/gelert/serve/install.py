"""Puts the hooks into a runtime's own settings and takes them out again; all else that stands there stays.

What is written is the same each time: Codex trusts a hook by the hash of its command line and by its place.
"""

import copy
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from gelert.core.errors import InputError
from gelert.guard.formats.untrusted import Object, as_list, as_object, came, text_at
from gelert.serve.hooks import shim
from gelert.serve.hooks.answers import SIGN
from gelert.serve.hooks.event import EVENTS, Runtime
from gelert.serve.runtimes import settings_file

TIMEOUT_SECONDS = 30
"""That the runtime waits for the hook; longer than the hook itself waits for the service."""
BACKUP = ".before-gelert"
MOST_BYTES = 8 << 20
PLUGIN = "gelert"
_SHIM = "gelert/serve/hooks/shim.py"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a settings file."""

    path: Path
    before: str
    """Empty if there is no file."""
    after: str
    """Empty if there shall be none."""
    first: bool
    """Whether nothing of ours stood there before, so that it is worth a backup."""

    @property
    def needed(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after


def command_line(runtime: Runtime, event: str) -> str:
    """What the runtime's shell runs. If not even Python starts, the shell itself blocks: both runtimes go on else."""
    path = Path(shim.__file__)
    words = [python(), "-I", "-S", str(path), runtime.value, event]
    run = f"[ -r {shlex.quote(str(path))} ] && {shlex.join(words)}"
    reason = f"{SIGN} degraded, blocked: its hook did not run; do: gelert install {runtime.value}"
    match event:
        case "MessageDisplay":
            shown = {"hookEventName": event, "displayContent": f"[withheld] {reason}"}
            instead = _printed({"hookSpecificOutput": shown})
        case "Stop" | "SubagentStop":
            # Sent back, the reply would come again without end: nobody reads here whether it was sent back before.
            instead = _printed({"continue": False, "stopReason": reason, "systemMessage": reason})
        case _:
            instead = f"echo {shlex.quote(reason)} >&2; exit {shim.BLOCK}"
    return f"{run} || {{ [ $? -eq {shim.BLOCK} ] && exit {shim.BLOCK}; {instead}; }}"


def python() -> str:
    """The interpreter under one name, however this process was started: Codex's trust hangs on the letters."""
    named = Path(sys.prefix) / "bin" / "python3"
    return str(named if named.exists() else sys.executable)


def _printed(value: Object) -> str:
    return f"printf %s {shlex.quote(json.dumps(value))}"


def is_ours(hook: Object) -> bool:
    """Whether a hook in the settings is one that was put there."""
    return _SHIM in text_at(hook, "command")


def entry(runtime: Runtime, event: str) -> Object:
    """One hook, as it stands in the settings."""
    found: Object = {"type": "command", "command": command_line(runtime, event), "timeout": TIMEOUT_SECONDS}
    return found | ({"onFailure": "block"} if runtime is Runtime.CLAUDE_CODE else {})


def plugin_folder() -> Path:
    """Where the OpenClaw plugin lies."""
    return Path(__file__).resolve().parent / "openclaw_plugin"


def installed(runtime: Runtime, folder: Path) -> Change:
    """The settings with the hooks in them.

    Raises:
        InputError: the settings are not what this runtime reads.
    """
    return _change(runtime, folder, put=True)


def uninstalled(runtime: Runtime, folder: Path) -> Change:
    """The settings without the hooks.

    Raises:
        InputError: the settings are not what this runtime reads.
    """
    return _change(runtime, folder, put=False)


def settings(path: Path) -> Object:
    """What stands in a settings file; nothing if there is none.

    Raises:
        InputError: it is no JSON object.
    """
    text = _text(path)
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as fault:
        raise InputError(
            f"expected JSON without comments, got {fault} ({path}); mend it, nothing was changed"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"expected an object of settings, got {came(value)} ({path}); nothing was changed")
    return as_object(value)


def carry_out(change: Change) -> Path | None:
    """Write the change whole or not at all; gives the backup of what stood there before the first change."""
    path = change.path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = path.with_name(path.name + BACKUP)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    if change.first and change.before and not backup.exists():
        _write(backup, change.before, mode)
    if change.after:
        _write(path, change.after, mode)
    else:
        path.unlink(missing_ok=True)
    return backup if backup.exists() else None


def _write(path: Path, text: str, mode: int) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def _change(runtime: Runtime, folder: Path, *, put: bool) -> Change:
    path = settings_file(runtime, folder)
    before, found = _text(path), settings(path)
    without = _without_plugin(found) if runtime is Runtime.OPENCLAW else _with_hooks(found, runtime, put=False)
    if put:
        after = _with_plugin(found) if runtime is Runtime.OPENCLAW else _with_hooks(found, runtime, put=True)
    else:
        after = without
    if after == found:
        return Change(path, before, before, first=False)
    text = json.dumps(after, indent=2, ensure_ascii=False) + "\n" if after else ""
    return Change(path, before, text, first=without == found)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise InputError(f"expected settings of at most {MOST_BYTES} bytes, got more ({path})")
        return raw.decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"expected settings that can be read, got {fault} ({path}); nothing was changed") from None


def _with_hooks(found: Object, runtime: Runtime, *, put: bool) -> Object:
    after = copy.deepcopy(found)
    hooks = after.setdefault("hooks", {})
    if not isinstance(hooks, dict):
        raise InputError(f"expected an object under 'hooks', got {came(hooks)}; mend it, nothing was changed")
    hooks = as_object(hooks)
    for event in [*EVENTS[runtime], *(set(hooks) - set(EVENTS[runtime]))]:
        groups = as_list(hooks.get(event))
        if event in hooks and not isinstance(hooks[event], list):
            raise InputError(f"expected a list under hooks.{event}, got {came(hooks[event])}; nothing was changed")
        wanted = entry(runtime, event) if put and event in EVENTS[runtime] else None
        kept = _groups(groups, wanted)
        if kept:
            hooks[event] = kept
        elif groups:
            del hooks[event]
    if not hooks:
        del after["hooks"]
    return after


def _groups(groups: list[object], wanted: Object | None) -> list[object]:
    """The groups with the wanted hook in the place of an earlier one of ours, or at the end; others untouched."""
    kept: list[object] = []
    for group in groups:
        members = as_list(as_object(group).get("hooks"))
        if not any(is_ours(as_object(one)) for one in members):
            kept.append(group)
            continue
        others = [one for one in members if not is_ours(as_object(one))]
        if wanted is not None and not others:
            kept.append({"hooks": [wanted]})
            wanted = None
        elif others:
            kept.append({**as_object(group), "hooks": others})
    return [*kept, {"hooks": [wanted]}] if wanted is not None else kept


def _with_plugin(found: Object) -> Object:
    after = copy.deepcopy(found)
    plugins = _inside(after, "plugins")
    load, entries = _inside(plugins, "load"), _inside(plugins, "entries")
    paths = [path for path in as_list(load.get("paths")) if not _is_plugin(path)]
    load["paths"] = [*paths, str(plugin_folder())]
    own = _inside(entries, PLUGIN)
    own["enabled"] = True
    _inside(own, "hooks")["allowConversationAccess"] = True
    # A list of allowed plugins shuts out all others, so one is never begun here.
    if isinstance(plugins.get("allow"), list) and PLUGIN not in as_list(plugins["allow"]):
        plugins["allow"] = [*as_list(plugins["allow"]), PLUGIN]
    return after


def _without_plugin(found: Object) -> Object:
    after = copy.deepcopy(found)
    plugins = as_object(after.get("plugins"))
    load, entries = as_object(plugins.get("load")), as_object(plugins.get("entries"))
    if "paths" in load:
        load["paths"] = [path for path in as_list(load["paths"]) if not _is_plugin(path)]
    entries.pop(PLUGIN, None)
    if "allow" in plugins:
        plugins["allow"] = [one for one in as_list(plugins["allow"]) if one != PLUGIN]
    for holder, key, empty in ((load, "paths", []), (plugins, "load", {}), (plugins, "entries", {})):
        if holder.get(key) == empty:
            holder.pop(key, None)
    if after.get("plugins") == {}:
        del after["plugins"]
    return after


def _is_plugin(path: object) -> bool:
    """Whether a path in the settings leads to the plugin, of this or an earlier installation."""
    if not isinstance(path, str):
        return False
    named = Path(path) / "openclaw.plugin.json"
    try:
        return as_object(json.loads(named.read_text(encoding="utf-8"))).get("id") == PLUGIN
    except (OSError, ValueError):
        return path.endswith("openclaw_plugin")


def _inside(holder: Object, key: str) -> Object:
    found = holder.setdefault(key, {})
    if not isinstance(found, dict):
        raise InputError(f"expected an object under {key!r}, got {came(found)}; mend it, nothing was changed")
    return as_object(found)
