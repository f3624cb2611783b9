"""``gelert policy``: look at a policy file, and try it on recorded runs before it holds for any that is alive."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.cli.guards import guard_option, open_guard
from gelert.cli.show import name_of
from gelert.core.decision import Allow, Decision
from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Role, Setting, Trajectory
from gelert.core.verdict import Unreadable, Verdict
from gelert.guard.guard import Guard, Resumable
from gelert.guard.policy import Surface

if TYPE_CHECKING:
    from gelert.guard.policy_sections import Treatment

EXAMPLES = """\b
Examples:
  gelert policy check policy.toml
  gelert policy test policy.toml ~/.codex/sessions
  gelert policy test policy.toml logs/ --project /home/me/site
  gelert policy test policy.toml logs/ --json | grep '"block"'
"""

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Check a policy file, and try it on recorded runs."""


@command.command()
@click.argument("path", type=FILE, metavar="FILE")
def check(path: Path) -> None:
    """Show how each surface is treated under the policy in FILE; exit code 2 if it is not one."""
    from gelert.guard.policy_file import read_policy

    sections = read_policy(path).sections
    for surface in Surface:
        general = sections.treatment(Setting.GENERAL, surface)
        for setting in Setting:
            found = sections.treatment(setting, surface)
            if setting is Setting.GENERAL or found != general:
                click.echo(_treated(surface, setting, found))
    for rule in sections.rule:
        click.echo(f"{rule.then}: {rule.when}")
    for project in sections.project:
        allowed = f"allow {', '.join(project.allow)}" if project.allow else "allow nothing more"
        click.echo(f"project {project.path}: {allowed}")
        for surface in Surface:
            for setting in Setting:
                found = sections.treatment(setting, surface, project.folder)
                if found != sections.treatment(setting, surface):
                    click.echo(f"  {_treated(surface, setting, found)}")


@command.command()
@click.argument("path", type=FILE, metavar="FILE")
@click.argument("logs", nargs=-1, required=True, metavar="LOGS...")
@guard_option
@click.option("--project", default="", metavar="FOLDER", help="Decide as in this folder; logs do not tell theirs.")
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object a decision, also where it is to allow.")
def test(path: Path, logs: tuple[str, ...], guard_name: str | None, project: str, as_lines: bool) -> None:
    """Say what would have been decided at each step of recorded runs under the policy in FILE.

    Each tool call, tool result and reply is judged as it stood then. Exit code 2 if a log could not be read.
    """
    from gelert.guard.formats import read
    from gelert.guard.policy_file import Question, read_policy

    policy, guard = read_policy(path), open_guard(guard_name)
    counts: Counter[str] = Counter()
    refused = False
    for found in (one for log in logs for one in read("-" if log == "-" else Path(log))):
        if isinstance(found, Refusal):
            print(f"refused  {found}", file=sys.stderr)
            refused = True
            continue
        for question in _questions(guard, found):
            decision = policy.decide(question.verdict, Question(question.surface, question.run, project))
            counts[type(decision).__name__.lower()] += 1
            if as_lines:
                print(json.dumps(_row(found, question, decision)))
            elif not isinstance(decision, Allow):
                print(_line(found, question, decision))
    if not as_lines:
        print(", ".join(f"{counts[kind]} {kind}" for kind in ("allow", "ask", "block")))
    sys.exit(2 if refused else 0)


def _treated(surface: Surface, setting: Setting, found: "Treatment") -> str:
    where = "" if setting is Setting.GENERAL else f" in {setting.value}"
    block = "what the guard calls unsafe" if found.rule.block_at is None else f"risk {found.rule.block_at:g}"
    ask = "" if found.rule.ask_at is None else f", ask at risk {found.rule.ask_at:g}"
    mode = "observe" if found.observe else "enforce"
    return f"{surface.value}{where}: {mode}, block at {block}{ask}, without a verdict {found.rule.on_failure.value}"


@dataclass(frozen=True, slots=True)
class _Question:
    run: Trajectory
    surface: Surface
    verdict: Verdict


def _questions(guard: Guard, example: Example) -> Iterator[_Question]:
    """What a live service would have been asked: at each step of the agent and each result."""
    whole = example.trajectory
    session = guard.session(whole) if isinstance(guard, Resumable) else None
    acted = False
    for run in whole.prefixes():
        last = run.steps[-1]
        if session:
            session.append(last)
        acted = acted or last.role is Role.AGENT
        if acted and last.role in (Role.AGENT, Role.TOOL):
            verdict = session.verdict() if session else guard.judge(run)
            surface = Surface.TOOL_CALL if last.calls else Surface.REPLY
            yield _Question(run, Surface.TOOL_RESULT if last.role is Role.TOOL else surface, verdict)


def _row(example: Example, question: _Question, decision: Decision) -> dict[str, object]:
    verdict = question.verdict
    return {
        "file": example.trajectory.origin.path,
        "record": example.trajectory.origin.record,
        "step": len(question.run.steps) - 1,
        "surface": question.surface.value,
        "verdict": type(verdict).__name__.lower(),
        "risk": None if isinstance(verdict, Unreadable) else verdict.risk,
        "decision": type(decision).__name__.lower(),
        "reason": "" if isinstance(decision, Allow) else decision.reason,
        "degraded": decision.degraded,
    }


def _line(example: Example, question: _Question, decision: Decision) -> str:
    row = _row(example, question, decision)
    return f"{row['decision']!s:5}  {name_of(example)}  step {row['step']}  {row['surface']!s:11}  {row['reason']}"
