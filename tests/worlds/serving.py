"""`gelert worlds serve` as a process, with the small world of the tests."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.worlds.small import DESK


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: "subprocess.Popen[str]"
    url: str

    def line(self) -> str:
        """The next line that it says."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()


@contextmanager
def replicas(folder: Path, count: int, *options: str) -> Generator[Served]:
    """So many replicas behind a free port, for as long as the block lasts."""
    world = folder / "desk.json"
    world.write_text(json.dumps(DESK))
    command = [sys.executable, "-m", "gelert.cli.main", "worlds", "serve", str(world), "--port", "0"]
    with subprocess.Popen([*command, "--replicas", str(count), *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = process.stderr.readline()
            assert told.startswith(f"{count} replicas on http://"), told + process.stderr.read()
            yield Served(process, told.split()[-1])
        finally:
            process.terminate()
