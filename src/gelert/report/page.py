"""One self-contained page: every trajectory with its verdict, its diagnosis and the steps that carry the evidence.

The page runs no script and loads nothing: the trajectories are hostile, so all their text is escaped, and a content
security policy forbids everything but the page's own style.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from gelert.core.example import Example
from gelert.core.taxonomy import Axis, Taxonomy
from gelert.core.trajectory import Role, Step
from gelert.core.verdict import Evidence, Safe, Unreadable, Unsafe, Verdict

SHOWN_CHARACTERS = 4_000
"""A longer step is shown up to here; the page says how much more there is."""

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } summary { cursor: pointer; padding: .35rem 0; }
details.run { border-bottom: 1px solid #8884; }
.chip { display: inline-block; min-width: 6.5rem; padding: 0 .5rem; border-radius: .3rem; color: #fff; }
.chip { text-align: center; }
.safe { background: #1a7f37; } .unsafe { background: #b3261e; } .unreadable { background: #6e6e6e; }
.bar { display: inline-block; width: 6rem; height: .6rem; background: #8883; border-radius: .3rem; }
.bar i { display: block; height: 100%; border-radius: .3rem; background: #b3261e; }
.step { margin: .4rem 0; padding: .3rem .7rem; border-left: .25rem solid #8884; }
.step { white-space: pre-wrap; overflow-wrap: anywhere; }
.step.tool { border-color: #b08800; } .step.agent { border-color: #0969da; } .step.user { border-color: #1a7f37; }
.step.evidence { background: #b3261e22; } .who { font-weight: 600; } .faint { opacity: .7; }
code { font-family: ui-monospace, monospace; font-size: .92em; }
"""


def write(path: Path, judged: Sequence[tuple[Example, Verdict]], taxonomy: Taxonomy, guard: str) -> None:
    """Write the page to ``path``."""
    path.write_text(page(judged, taxonomy, guard), encoding="utf-8", errors="xmlcharrefreplace")


def page(judged: Sequence[tuple[Example, Verdict]], taxonomy: Taxonomy, guard: str) -> str:
    """The page as HTML."""
    unsafe = sum(isinstance(v, Unsafe) for _, v in judged)
    unreadable = sum(isinstance(v, Unreadable) for _, v in judged)
    head = (
        f"<p>{len(judged)} trajectories, {unsafe} unsafe, {unreadable} unreadable; guard <b>{escape(guard)}</b>. "
        "Open one to read its steps; steps with a red ground raised the risk most.</p>"
    )
    runs = "\n".join(_run(example, verdict, taxonomy) for example, verdict in judged)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Gelert: {unsafe} of {len(judged)} unsafe</title><style>{STYLE}</style></head>\n"
        f"<body><h1>Gelert report</h1>{head}\n{runs}\n</body></html>\n"
    )


def _run(example: Example, verdict: Verdict, taxonomy: Taxonomy) -> str:
    origin = example.trajectory.origin
    name = escape(f"{origin.path}#{origin.record}" if origin.record else origin.path)
    evidence = {e.step: e for e in verdict.evidence} if isinstance(verdict, Unsafe) else {}
    steps = "\n".join(_step(i, s, evidence.get(i)) for i, s in enumerate(example.trajectory.steps))
    return (
        f'<details class="run"><summary>{_chip(verdict)} {name}</summary>{_why(verdict, taxonomy)}\n{steps}</details>'
    )


def _chip(verdict: Verdict) -> str:
    match verdict:
        case Unreadable():
            return '<span class="chip unreadable">unreadable</span>'
        case Safe(risk):
            return f'<span class="chip safe">safe</span> {_bar(risk)}'
        case Unsafe(risk):
            return f'<span class="chip unsafe">unsafe</span> {_bar(risk)}'


def _bar(risk: float) -> str:
    return f'<span class="bar" title="risk {risk:.2f}"><i style="width:{100 * risk:.0f}%"></i></span> {risk:.2f}'


def _why(verdict: Verdict, taxonomy: Taxonomy) -> str:
    match verdict:
        case Unreadable(reason):
            return f"<p>{escape(reason)}</p>"
        case Safe():
            return ""
        case Unsafe(_, _, diagnosis, _, rationale):
            rows = [
                f"<li>{axis.value.replace('_', ' ')}: <b>{escape(leaf.name)}</b>"
                f" <span class=faint>{escape(leaf.meaning)}</span></li>"
                for axis in Axis
                if (slug := diagnosis.on(axis)) and (leaf := taxonomy.by_slug(axis, slug))
            ]
            told = f"<p>{escape(rationale)}</p>" if rationale else ""
            return f"<ul>{''.join(rows)}</ul>{told}"


def _step(index: int, step: Step, evidence: Evidence | None) -> str:
    parts: list[str] = []
    if step.thought:
        parts.append(f'<span class="faint">{_shown(step.thought)}</span>')
    if step.text:
        parts.append(_shown(step.text))
    parts += [f"<code>{escape(call.name)} {_shown(call.arguments)}</code>" for call in step.calls]
    mark = f' <span class="faint">risk +{evidence.weight:.2f}</span>' if evidence else ""
    who = f"{step.role.value} {step.tool_name}" if step.role is Role.TOOL else step.role.value
    kind = f"step {step.role.value}{' evidence' if evidence else ''}"
    body = "\n".join(parts) or '<span class="faint">(empty)</span>'
    return f'<div class="{kind}"><span class="who">{index} {escape(who)}</span>{mark}\n{body}</div>'


def _shown(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return escape(text)
    return f"{escape(text[:SHOWN_CHARACTERS])} <i>[{len(text) - SHOWN_CHARACTERS} more characters]</i>"
