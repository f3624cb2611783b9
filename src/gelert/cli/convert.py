"""``gelert convert``: a log of any known format in, ATIF out."""

import json
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Literal, TextIO

import click

from gelert.core.errors import InputError
from gelert.core.example import Example, Refusal
from gelert.guard.formats import FORMATS, read, write_atif

_NOT_READ = 2

EXAMPLES = """\b
Examples:
  gelert convert rollout.jsonl run.json --to atif
  gelert convert logs/ runs.jsonl
  cat transcript.jsonl | gelert convert - - --format claude-code
"""


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--to", "to", type=click.Choice(["atif"]), default="atif", show_default=True, help="The form to write.")
@click.option("--format", "form", default="auto", show_default=True, help=f"One of: {', '.join(FORMATS)}.")
def command(source: str, target: str, to: str, form: str) -> None:
    """Turn an agent log of any known format into ATIF.

    IN is a file, a folder or - for standard input; OUT is a file or - for standard output. One trajectory gives one
    JSON document; several, or an OUT that ends in .jsonl, give JSON Lines. What could not be read is named on
    standard error, and the exit code is then 2.
    """
    assert to == "atif"
    place: Path | Literal["-"] = "-" if source == "-" else Path(source)
    found = list[Refusal]()
    examples = _readable(read(place, format=form), found)
    head = list(islice(examples, 2))
    if head:
        with _opened(target) as out:
            _write(chain(head, examples), out, lines=len(head) > 1 or target.endswith(".jsonl"))
    if found or not head:
        print(f"gelert: {len(found)} not read", file=sys.stderr)
        raise click.exceptions.Exit(_NOT_READ)


def _readable(items: Iterable[Example | Refusal], refused: list[Refusal]) -> Iterator[Example]:
    for item in items:
        if isinstance(item, Refusal):
            refused.append(item)
            print(str(item).encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
        else:
            yield item


def _write(examples: Iterable[Example], out: TextIO, *, lines: bool) -> None:
    """ASCII with escapes, so that half a surrogate pair in a log cannot stop the writing."""
    for example in examples:
        out.write(json.dumps(write_atif(example.trajectory), indent=None if lines else 2) + "\n")


@contextmanager
def _opened(target: str) -> Generator[TextIO]:
    if target == "-":
        yield sys.stdout
        return
    try:
        with Path(target).open("w", encoding="utf-8") as out:
            yield out
    except OSError as fault:
        raise InputError(f"expected a place to write to, got {fault.strerror} ({target}); check the path") from None
