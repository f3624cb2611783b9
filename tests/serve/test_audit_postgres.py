"""What is particular to an audit in PostgreSQL: several instances, a role that only adds, a server that goes away."""

import asyncio
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from gelert.core.decision import Allow
from gelert.core.errors import InputError
from gelert.guard.policy import Policy, Surface
from gelert.serve import audit, audit_postgres
from gelert.serve.asked import Asked
from gelert.serve.audit import Audit, key_path, read_key
from gelert.serve.audit_chain import Added, Head, beginning, linked
from gelert.serve.audit_check import Checked
from gelert.serve.audit_postgres import PostgresStore
from gelert.serve.audit_postgres_check import check, export
from gelert.serve.engine import Engine, Limits
from tests.cli.test_serve import RUN, Started, gelert, started
from tests.serve.postgres import WRITER, Cluster, cluster
from tests.serve.scripted_guard import ScriptedGuard
from tests.serve.support import said
from tests.serve.test_audit_contract import sound_again

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.fixture
def database(server: Cluster, count: Iterator[int] = itertools.count()) -> str:  # noqa: B008 - one for all tests
    """A fresh one; who writes it is connected as ``WRITER``."""
    name = f"d{next(count)}"
    server.made(name)
    return name


def opened(server: Cluster, database: str, path: Path, instance: str = "one") -> Audit:
    return Audit(path, store=partial(PostgresStore, server.url(database), instance))


def written(audit: Audit, count: int) -> list[int]:
    return [done.result(timeout=20) for done in [audit.append({"n": n}) for n in range(count)]]


def checked(server: Cluster, database: str, path: Path) -> dict[str, Checked]:
    return check(server.url(database), read_key(key_path(path)))


def killed_sessions(server: Cluster, database: str) -> None:
    server.execute("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")


@dataclass
class Client:
    """Asks a service from several threads; knows what was acknowledged."""

    service: Started
    numbers: list[int] = field(default_factory=list[int])
    enough: threading.Event = field(default_factory=threading.Event)

    def ask(self, count: int, enough: int) -> None:
        """So many decisions, or until the service is gone."""
        token = (self.service.home / "token").read_text().strip()
        with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
            for _ in range(count):
                try:
                    answer = client.post(f"{self.service.url}/v1/judge", content=RUN).json()
                except httpx.TransportError:
                    return
                assert answer["number"], answer
                self.numbers.append(answer["number"])
                if len(self.numbers) >= enough:
                    self.enough.set()


def test_two_services_write_two_thousand_decisions_at_once_and_the_death_of_one_loses_none(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    url = server.url(database)
    key = tmp_path / "shared.key"
    key.write_text("k" * 64)
    options = ("--audit", url, "--audit-key", str(key), "--instance")
    with (
        started(tmp_path / "one", *options, "one") as one,
        started(tmp_path / "two", *options, "two") as two,
        ThreadPoolExecutor(8) as pool,
    ):
        clients = [Client(one), Client(two)]
        asked = [pool.submit(client.ask, 250, 500) for client in clients for _ in range(4)]
        assert clients[0].enough.wait(120)
        one.process.send_signal(signal.SIGKILL)
        for done in asked:
            done.result()
        found = check(url, key.read_bytes())
        assert {name: chain.faults for name, chain in found.items()} == {"one": (), "two": ()}
        assert sorted(clients[1].numbers) == list(range(1, 1001))
        assert found["two"].records == 1000
        assert 500 <= len(clients[0].numbers) < 1000
        assert set(clients[0].numbers) <= set(range(1, found["one"].records + 1))
    with started(tmp_path / "one", *options, "one") as again:
        client = Client(again)
        client.ask(1000 - len(clients[0].numbers), 1000)
        assert min(client.numbers) == found["one"].records + 1
    verified = gelert("audit", "verify", url, "--key", str(key), home=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.count("the chain is whole") == 2
    assert f"one: head {max(client.numbers)} " in verified.stdout
    exported = [json.loads(line) for line in gelert("audit", "export", url, home=tmp_path).stdout.splitlines()]
    kept = {(row["instance"], row["number"]) for row in exported}
    assert kept >= {("one", n) for n in clients[0].numbers + client.numbers} | {("two", n) for n in clients[1].numbers}
    assert len(exported) >= 2000


def test_a_database_that_stops_and_starts_costs_the_decisions_in_between_and_nothing_else(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    with started(tmp_path, "--audit", server.url(database), "--instance", "one", "--deadline", "3") as service:
        token = (tmp_path / "token").read_text().strip()
        with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=60, base_url=service.url) as client:

            def decided() -> tuple[str, bool, int]:
                answer = client.post("/v1/judge", content=RUN).json()
                return answer["decision"], answer["degraded"], answer["number"]

            assert [decided() for _ in range(3)] == [("allow", False, n) for n in (1, 2, 3)]
            server.stop("immediate")
            try:
                assert [decided() for _ in range(3)] == [("block", True, 0)] * 3
                assert client.get("/readyz").status_code == 503
            finally:
                server.start()
            assert [decided() for _ in range(3)] == [("allow", False, n) for n in (4, 5, 6)]
            assert client.get("/readyz").status_code == 200
            server.stop()
            server.start()
            assert decided() == ("allow", False, 7)
    found = gelert("audit", "verify", server.url(database), home=tmp_path)
    assert (found.returncode, "one: 7 records" in found.stdout) == (0, True), found.stderr


def test_a_database_that_can_only_be_read_is_written_to_again_when_it_can(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        assert written(writer, 2) == [1, 2]
        server.execute("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        killed_sessions(server, database)
        assert isinstance(writer.append({"n": 0}).exception(20), psycopg.errors.ReadOnlySqlTransaction)
        server.execute("postgres", f"ALTER DATABASE {database} RESET default_transaction_read_only")
        assert written(writer, 2) == [3, 4]
    assert checked(server, database, tmp_path / "a.db")["one"].faults == ()


def frozen(server: Cluster, database: str, number: signal.Signals) -> None:
    """Send a signal to the process that serves the writer."""
    with psycopg.connect(server.url("postgres", "owner")) as rows:
        found = rows.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = %s", (database, WRITER)
        ).fetchall()
    (pid,) = found[0]
    os.kill(pid, number)


def test_a_server_that_hangs_costs_no_more_than_the_deadline_and_is_gone_on_with(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    async def working() -> list[int]:
        engine = Engine(ScriptedGuard(), Policy(), opened(server, database, tmp_path / "a.db"), Limits(0.4))
        asked = Asked(Surface.REPLY, said())
        numbers = [(await engine.decide(asked)).number]
        frozen(server, database, signal.SIGSTOP)
        try:
            slow = await asyncio.gather(*(engine.decide(asked) for _ in range(20)))
            assert all(one.decision.degraded and one.milliseconds < 3_000 for one in slow)
            numbers += [one.number for one in slow]
        finally:
            frozen(server, database, signal.SIGCONT)
        answered = await sound_again(engine)
        assert answered.decision == Allow()
        numbers.append(answered.number)
        await engine.close()
        return numbers

    numbers = asyncio.run(working())
    assert numbers == [1, *[0] * 20, 2]
    assert checked(server, database, tmp_path / "a.db")["one"].faults == ()


def test_a_server_that_hangs_does_not_keep_the_service_from_ending(
    server: Cluster, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CLOSING_SECONDS", 0.5)
    writer = opened(server, database, tmp_path / "a.db")
    written(writer, 1)
    frozen(server, database, signal.SIGSTOP)
    try:
        done, start = writer.append({"n": 1}), time.monotonic()
        writer.close()
        assert time.monotonic() - start < 5
        assert not done.done()
    finally:
        frozen(server, database, signal.SIGCONT)
    assert done.result(20) == 2


class Relay:
    """Passes bytes on between a TCP port and the server's socket, until it is told to be silent on what is open."""

    def __init__(self, server: Cluster) -> None:
        self._path = str(server.folder / ".s.PGSQL.5432")
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open = [self._door]
        self.silent = threading.Event()
        """For the connections there are; what is opened later gets through."""
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        return f"postgresql://{WRITER}@127.0.0.1:{self._door.getsockname()[1]}/{database}?sslmode=disable"

    def silence(self) -> None:
        self.silent.set()
        self.silent = threading.Event()

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):  # its other end is gone
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self._door.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(self._path)
                self._open += (near, far)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(*ends, self.silent), daemon=True).start()

    @staticmethod
    def _pass(of: socket.socket, to: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := of.recv(65_536):
                if not silent.is_set():
                    to.sendall(data)
            if not silent.is_set():
                to.shutdown(socket.SHUT_WR)


def test_a_line_that_hangs_without_end_is_cut_and_another_one_taken(
    server: Cluster, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_postgres, "HANGING_SECONDS", 0.5)
    relay = Relay(server)
    store = partial(PostgresStore, relay.url(database), "one")
    with Audit(tmp_path / "a.db", store=store) as writer:
        assert written(writer, 2) == [1, 2]
        relay.silence()
        killed_sessions(server, database)  # as when another server takes over
        assert written(writer, 2) == [3, 4]
    relay.close()
    assert checked(server, database, tmp_path / "a.db")["one"].faults == ()


def test_entries_that_wait_are_committed_together(server: Cluster, database: str, tmp_path: Path) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        written(writer, 1_000)
    with psycopg.connect(server.url(database)) as rows:
        (commits,) = rows.execute("SELECT count(DISTINCT xmin::text) FROM gelert.decision").fetchall()[0]
    assert 1 <= commits <= 100


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gelert.decision SET entry = '{}'",
        "DELETE FROM gelert.decision",
        "TRUNCATE gelert.decision",
        "UPDATE gelert.signed SET hash = ''",
        "DELETE FROM gelert.signed",
        "TRUNCATE gelert.signed",
        "DROP TABLE gelert.decision",
        "ALTER TABLE gelert.decision DISABLE TRIGGER USER",
        "CREATE TABLE gelert.mine (n int)",
        "CREATE OR REPLACE FUNCTION gelert.only_added() RETURNS trigger LANGUAGE sql AS ''",
    ],
)
def test_who_writes_can_only_add_and_read(server: Cluster, database: str, tmp_path: Path, statement: str) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        written(writer, 2)
    with (
        psycopg.connect(server.url(database)) as rows,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidFunctionDefinition)),
    ):
        rows.execute(statement.encode())
    assert checked(server, database, tmp_path / "a.db")["one"].records == 2


@pytest.mark.parametrize(
    "statement", ["TRUNCATE gelert.decision", "TRUNCATE gelert.signed", "DELETE FROM gelert.signed"]
)
def test_the_owner_empties_nothing_by_accident(server: Cluster, database: str, tmp_path: Path, statement: str) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        written(writer, audit_rows := 1_000)
    with pytest.raises(psycopg.errors.RaiseException, match="only added"):
        server.execute(database, statement)
    assert checked(server, database, tmp_path / "a.db")["one"].records == audit_rows


def test_the_schema_can_be_made_twice(server: Cluster, database: str, tmp_path: Path) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        written(writer, 2)
    printed = gelert("audit", "schema", home=tmp_path)
    server.execute(database, printed.stdout)
    assert checked(server, database, tmp_path / "a.db")["one"].records == 2


def two_chains(server: Cluster, database: str, path: Path) -> None:
    for name in ("one", "two"):
        with opened(server, database, path, name) as writer:
            written(writer, 3)


UNLOCKED = "ALTER TABLE gelert.decision DISABLE TRIGGER USER; ALTER TABLE gelert.signed DISABLE TRIGGER USER;"


def test_a_chain_under_another_instances_name_is_found(server: Cluster, database: str, tmp_path: Path) -> None:
    two_chains(server, database, tmp_path / "a.db")
    move = "".join(
        f"DELETE FROM gelert.{table} WHERE instance = 'one'; UPDATE gelert.{table} SET instance = 'one';"
        for table in ("decision", "signed")
    )
    server.execute(database, UNLOCKED + move)
    assert checked(server, database, tmp_path / "a.db")["one"].faults


def test_a_row_that_moved_to_another_chain_is_found_in_both(server: Cluster, database: str, tmp_path: Path) -> None:
    two_chains(server, database, tmp_path / "a.db")
    swap = (
        "UPDATE gelert.decision SET instance = 'x' WHERE instance = 'one' AND number = 2;"
        "UPDATE gelert.decision SET instance = 'one' WHERE instance = 'two' AND number = 2;"
        "UPDATE gelert.decision SET instance = 'two' WHERE instance = 'x';"
    )
    server.execute(database, UNLOCKED + swap)
    found = checked(server, database, tmp_path / "a.db")
    assert found["one"].faults
    assert found["two"].faults


def test_a_fault_in_one_chain_says_nothing_of_the_other_and_exits_with_one(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    two_chains(server, database, tmp_path / "audit.db")
    server.execute(database, UNLOCKED + "DELETE FROM gelert.decision WHERE instance = 'one' AND number = 2")
    url = server.url(database)
    both = gelert("audit", "verify", url, home=tmp_path)
    assert both.returncode == 1
    assert "one: the chain is not whole" in both.stdout
    assert "two: the chain is whole" in both.stdout
    assert gelert("audit", "verify", url, "--instance", "two", home=tmp_path).returncode == 0
    assert len(list(export(url, "two"))) == 3


def test_a_row_that_another_writer_adds_to_a_chain_stops_it_and_is_found(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        written(writer, 2)
        with psycopg.connect(server.url(database), autocommit=True) as rows:
            rows.execute("INSERT INTO gelert.decision VALUES ('one', 3, '{}', '', '')")
        assert isinstance(writer.append({"n": 0}).exception(20), psycopg.errors.UniqueViolation)
        assert isinstance(writer.append({"n": 0}).exception(20), InputError)
    assert checked(server, database, tmp_path / "a.db")["one"].faults


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_whose_answer_was_lost_is_gone_on_from_wherever_it_ended(
    server: Cluster, database: str, *, landed: bool
) -> None:
    key = b"k" * 32
    store = PostgresStore(server.url(database), "one", key)
    store.commit(lambda head: linked(head, ["{}", "{}"], key))

    def added(head: Head) -> Added:
        """Dies between what it wrote and the answer; another hand has written the same, or nobody has."""
        made = linked(head, ["{}"], key)
        killed_sessions(server, database)
        if landed:
            other = PostgresStore(server.url(database), "one", key)
            other.commit(lambda _: made)
            other.close()
        return made

    with pytest.raises(psycopg.OperationalError):
        store.commit(added)
    store.commit(lambda head: linked(head, ["{}"], key))
    assert store.head.number == (4 if landed else 3)
    store.close()
    assert check(server.url(database), key)["one"].faults == ()


def test_a_database_put_back_to_an_older_copy_is_not_written_on(server: Cluster, database: str, tmp_path: Path) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        written(writer, 2)
        server.execute(database, "CREATE TABLE d AS TABLE gelert.decision; CREATE TABLE s AS TABLE gelert.signed")
        written(writer, 2)
        server.execute(
            database,
            UNLOCKED + "DELETE FROM gelert.decision; DELETE FROM gelert.signed;"
            "INSERT INTO gelert.decision TABLE d; INSERT INTO gelert.signed TABLE s",
        )
        killed_sessions(server, database)
        assert "end at record 4, got 2" in str(writer.append({"n": 0}).exception(20))


def test_every_letter_is_kept(server: Cluster, database: str, tmp_path: Path) -> None:
    with opened(server, database, tmp_path / "a.db") as writer:
        writer.append({"n": "nul \0, quote ' \" \\ %s, é, 漢, \U0001f600, half \ud800"}).result(20)
    assert checked(server, database, tmp_path / "a.db")["one"].faults == ()
    assert len(list(export(server.url(database)))) == 1


@pytest.mark.parametrize(
    ("url", "instance", "wanted"),
    [
        ("postgresql://{role}@/nowhere?host={folder}", "one", "expected a database that answers"),
        ("postgresql://{role}@/postgres?host={folder}", "one", "gelert audit schema"),
        ("postgresql://{role}:hunter2hunter2@/x?host={folder}/none", "one", "expected a database that answers"),
        ("postgresql://{role}:hunter2hunter2@host:hunter2hunter2/x", "one", "expected a database that answers"),
        ("postgresql://{role}@/nowhere?host={folder}", "a name", "letters, digits"),
    ],
)
def test_what_cannot_be_opened_says_why_and_tells_no_password(
    server: Cluster, tmp_path: Path, url: str, instance: str, wanted: str
) -> None:
    server.made(f"roles{abs(hash((url, instance)))}")  # so that the role is there
    place = url.format(role=WRITER, folder=server.folder)
    out = gelert("serve", "--port", "0", "--audit", place, "--instance", instance, home=tmp_path)
    assert out.returncode == 2
    assert wanted in out.stderr
    assert "hunter2" not in out.stderr


def test_the_beginning_of_a_chain_is_its_instances_own() -> None:
    assert len({beginning(name).hash for name in ("one", "two", "")} | {Head().hash}) == 4
