"""A PostgreSQL of its own, in a temporary folder, that listens on a Unix socket only: Debian's package as it is."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from gelert.serve.audit_postgres import schema

SERVER = "postgres" if os.geteuid() == 0 else None
"""As whom the server runs: it refuses to as root."""

WRITER = "gelert_one"
OWNER = "owner"
WRITERS = f"""DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{WRITER}') THEN
    CREATE ROLE {WRITER} LOGIN IN ROLE gelert_writer;
  END IF;
END $$"""


def binary(name: str) -> str:
    """The newest that Debian has, or the one on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"expected {name}; run: apt-get install postgresql"
    return path


@dataclass(frozen=True)
class Cluster:
    """A database server that can be stopped and started."""

    folder: Path

    def url(self, database: str, role: str = WRITER) -> str:
        return f"postgresql://{role}@/{database}?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def made(self, database: str) -> str:
        """A fresh database with the audit's tables; the URL of who may write it."""
        with psycopg.connect(self.url("postgres", OWNER), autocommit=True) as rows:
            rows.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        self.execute(database, schema())
        self.execute(database, WRITERS)
        return self.url(database)

    def execute(self, database: str, script: str) -> None:
        """Run a script as the owner."""
        with psycopg.connect(self.url(database, OWNER), autocommit=True) as rows:
            rows.execute(script.encode())

    def run(self, name: str, *words: str) -> None:
        """One of PostgreSQL's commands."""
        done = subprocess.run(
            [binary(name), *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            user=SERVER,
            group=SERVER,
            extra_groups=[] if SERVER else None,
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def cluster() -> Generator[Cluster]:
    """A server for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="gelert-pg-"))
    if SERVER:
        shutil.chown(folder, SERVER, SERVER)
    found = Cluster(folder)
    try:
        found.run("initdb", "-D", str(folder / "data"), "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync")
        found.start()
        yield found
    finally:
        if (folder / "data/postmaster.pid").exists():
            found.stop("immediate")
        shutil.rmtree(folder)
