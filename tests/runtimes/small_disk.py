"""A disk of a megabyte that can be filled to the last byte: a real ENOSPC."""

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """Where it is mounted."""

    path: Path

    @property
    def fills(self) -> str:
        """The shell's words that fill it."""
        return f"cat /dev/zero > {self.path}/fill"

    def fill(self) -> None:
        """Write until nothing more fits."""
        subprocess.run(["/bin/sh", "-c", self.fills], capture_output=True, check=False)
        assert shutil.disk_usage(self.path).free == 0


@contextmanager
def small_disk(path: Path) -> Generator[Disk]:
    """The disk for as long as the block lasts; skips where none can be mounted."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "gelert", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
