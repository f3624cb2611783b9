"""A disk of a megabyte that can be filled to the last byte: a real ENOSPC."""

import errno
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BLOCK_BYTES = 512


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
        with (self.path / "fill").open("ab", buffering=0) as stream:
            while True:
                try:
                    stream.write(bytes(BLOCK_BYTES))
                except OSError as fault:
                    assert fault.errno == errno.ENOSPC
                    return


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
