"""``gelert judge``: the main job."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gelert.backends.base import in_order
from gelert.cli.guards import guard_option, open_guard
from gelert.cli.show import as_json, line
from gelert.core.example import Example, Refusal
from gelert.core.taxonomy import Taxonomy
from gelert.core.trajectory import Setting
from gelert.core.verdict import Unreadable, Unsafe, Verdict
from gelert.guard.guard import Guard

EPILOG = """\b
Examples:
  gelert judge run.jsonl
  gelert judge logs/ --json > verdicts.jsonl
  codex exec ... ; gelert judge ~/.codex/sessions --fail-on unsafe
  gelert judge logs/ --html report.html

\b
Exit code:
  0  everything was judged (and with --fail-on unsafe: safe)
  1  something is unsafe, with --fail-on unsafe
  2  something could not be read or judged
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@guard_option
@click.option(
    "--setting",
    type=click.Choice([s.value for s in Setting]),
    help="Where the agent ran; chooses the leaves of the taxonomy. Default: what the log's format says.",
)
@click.option("--format", "format_name", default="auto", show_default=True, help="Read PATH as this format.")
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object a trajectory.")
@click.option("--html", "html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a report page.")
@click.option("--fail-on", type=click.Choice(["unsafe"]), help="Exit with 1 if anything is unsafe.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    paths: tuple[str, ...],
    guard_name: str | None,
    setting: str | None,
    format_name: str,
    as_lines: bool,
    html: Path | None,
    fail_on: str | None,
    quiet: bool,
) -> None:
    """Judge agent logs: one line a trajectory with verdict, risk, the three axes and the steps that carry the evidence.

    PATH is a file (JSON, JSON Lines, gzip), a folder, or - for standard input; the format is found by content.
    """
    found = list(_read(paths, format_name, Setting(setting) if setting else None))
    examples = [f for f in found if isinstance(f, Example)]
    refusals = [f for f in found if isinstance(f, Refusal)]
    for refusal in refusals:
        print(f"refused  {refusal}", file=sys.stderr)
    judged: list[tuple[Example, Verdict]] = []
    if examples:
        guard = open_guard(guard_name)
        taxonomy = Taxonomy.load()
        for example, verdict in _progress(_judge(guard, examples), len(examples), show=not quiet):
            judged.append((example, verdict))
            row = as_json(example, verdict, guard.name) if as_lines else None
            print(json.dumps(row, ensure_ascii=True) if row else line(example, verdict, taxonomy), flush=True)
        if html:
            from gelert.report.page import write

            write(html, judged, taxonomy, guard.name)
    sys.exit(_exit_code(judged, refusals, fail_on))


def _read(paths: tuple[str, ...], format_name: str, setting: Setting | None) -> Iterator[Example | Refusal]:
    from gelert.guard.formats import read

    for path in paths:
        yield from read("-" if path == "-" else Path(path), format=format_name, setting=setting)


def _judge(guard: Guard, examples: list[Example]) -> Iterator[tuple[Example, Verdict]]:
    """Each example with its verdict, in order; as many are judged at once as the guard is best asked."""
    verdicts = in_order(guard.judge, (example.trajectory for example in examples), guard.concurrency)
    return zip(examples, verdicts, strict=True)


def _progress(
    judged: Iterator[tuple[Example, Verdict]], total: int, *, show: bool
) -> Iterator[tuple[Example, Verdict]]:
    if not show or not sys.stderr.isatty() or total < 3:
        yield from judged
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(judged, total=total, description="judging", console=Console(stderr=True), transient=True)


def _exit_code(judged: list[tuple[Example, Verdict]], refusals: list[Refusal], fail_on: str | None) -> int:
    if refusals or not judged or any(isinstance(v, Unreadable) for _, v in judged):
        return 2
    return 1 if fail_on == "unsafe" and any(isinstance(v, Unsafe) for _, v in judged) else 0
