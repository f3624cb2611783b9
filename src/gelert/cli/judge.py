"""``gelert judge``: the main job."""

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from gelert.cli.guards import at_once_option, guard_option
from gelert.cli.judging import Opinion, opinions
from gelert.cli.show import as_json, line
from gelert.cli.spreading import spread_options
from gelert.core.example import Example, Refusal
from gelert.core.taxonomy import Taxonomy
from gelert.core.trajectory import Setting
from gelert.core.verdict import Unreadable, Unsafe, Verdict
from gelert.spread.workers import Workers

EPILOG = """\b
Examples:
  gelert judge run.jsonl
  gelert judge logs/ --json > verdicts.jsonl
  codex exec ... ; gelert judge ~/.codex/sessions --fail-on unsafe
  gelert judge logs/ --html report.html
  gelert judge many.jsonl --json --ray 10.0.0.1:6379
  gelert judge logs/ --guard agentdog-1.0-coarse@http://127.0.0.1:8000/v1#my-adapter --at-once 64

\b
Exit code:
  0  everything was judged (and with --fail-on unsafe: safe)
  1  something is unsafe, with --fail-on unsafe
  2  something could not be read or judged
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@guard_option
@at_once_option
@spread_options
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
    at_once: int | None,
    workers: int,
    ray: str,
    setting: str | None,
    format_name: str,
    as_lines: bool,
    html: Path | None,
    fail_on: str | None,
    quiet: bool,
) -> None:
    """Judge agent logs: one line a trajectory with verdict, risk, the three axes and the steps that carry the evidence.

    PATH is a file (JSON, JSON Lines, gzip), a folder, or - for standard input; the format is found by content. Runs are
    read as they are needed, and verdicts come in their order, each as soon as those before it.
    """
    options = format_name, Setting(setting) if setting else None
    found, seen = _read(paths, *options), _Seen()
    shown = not quiet and sys.stderr.isatty()
    total = sum(isinstance(f, Example) for f in _read(paths, *options)) if shown and "-" not in paths else None
    examples = _examples(found, seen)
    first = next(examples, None)
    if first is not None:
        taxonomy, kept, guard = Taxonomy.load(), list[tuple[Example, Verdict]](), ""
        judged = opinions(guard_name, at_once, Workers(workers, ray), chain([first], examples))
        for example, said in _progress(judged, total, show=shown):
            verdict, guard = said.verdict, said.guard
            seen.judged(verdict)
            if html:
                kept.append((example, verdict))
            row = as_json(example, verdict, guard) if as_lines else None
            print(json.dumps(row, ensure_ascii=True) if row else line(example, verdict, taxonomy), flush=True)
        if html:
            from gelert.report.page import write

            write(html, kept, taxonomy, guard)
    sys.exit(seen.exit_code(fail_on))


class _Seen:
    """What the exit code goes by."""

    def __init__(self) -> None:
        self.any = self.unsafe = self.failed = False

    def judged(self, verdict: Verdict) -> None:
        self.any = True
        self.unsafe |= isinstance(verdict, Unsafe)
        self.failed |= isinstance(verdict, Unreadable)

    def exit_code(self, fail_on: str | None) -> int:
        if self.failed or not self.any:
            return 2
        return 1 if fail_on == "unsafe" and self.unsafe else 0


def _read(paths: tuple[str, ...], format_name: str, setting: Setting | None) -> Iterator[Example | Refusal]:
    from gelert.guard.formats import read

    # All are opened first: a path that is not there is told before anything is judged.
    opened = [read("-" if path == "-" else Path(path), format=format_name, setting=setting) for path in paths]
    return chain.from_iterable(opened)


def _examples(found: Iterator[Example | Refusal], seen: _Seen) -> Iterator[Example]:
    """The runs; what is refused is told as it is met."""
    for one in found:
        if isinstance(one, Example):
            yield one
        else:
            seen.failed = True
            print(f"refused  {one}", file=sys.stderr)


def _progress(
    judged: Iterator[tuple[Example, Opinion]], total: int | None, *, show: bool
) -> Iterator[tuple[Example, Opinion]]:
    if not show or (total is not None and total < 3):
        yield from judged
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(judged, total=total, description="judging", console=Console(stderr=True), transient=True)
