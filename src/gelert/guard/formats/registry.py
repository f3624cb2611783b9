"""Every format that is read, by name, and which of them a value is."""

from gelert.guard.formats import (
    agentdog,
    agentdojo,
    anthropic,
    atbench_codex,
    atif,
    claude_code,
    codex,
    inspect_log,
    langchain,
    openai_chat,
    openclaw,
    openhands,
    otel,
    responses,
    sharegpt,
    swe_agent,
    tau_bench,
    toolemu,
)
from gelert.guard.formats.run import Reader

FORMATS: dict[str, Reader] = {
    "agentdog": agentdog,
    "agentdojo": agentdojo,
    "anthropic": anthropic,
    "atbench-codex": atbench_codex,
    "atif": atif,
    "claude-code": claude_code,
    "codex": codex,
    "inspect": inspect_log,
    "langchain": langchain,
    "openai": openai_chat,
    "openclaw": openclaw,
    "openhands": openhands,
    "otel": otel,
    "responses": responses,
    "sharegpt": sharegpt,
    "swe-agent": swe_agent,
    "tau-bench": tau_bench,
    "toolemu": toolemu,
}
"""Name of each format, as ``--format`` takes it, and its reader."""


def recognised(value: object) -> str | None:
    """The name of the format that ``value`` is most surely of, or None."""
    scores = {name: reader.detect(value) for name, reader in FORMATS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > 0 else None
