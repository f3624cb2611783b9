"""Every store of the audit: what was written stays as it was, and whoever changes it without the key is found out."""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.core.decision import Allow, Block
from gelert.core.errors import InputError
from gelert.guard.policy import Policy, Surface
from gelert.serve import audit_check, audit_postgres_check
from gelert.serve.asked import Answered, Asked
from gelert.serve.audit import Audit, key_path, read_key
from gelert.serve.audit_chain import CHECKPOINT_ROWS
from gelert.serve.audit_check import Checked
from gelert.serve.audit_postgres import PostgresStore
from gelert.serve.engine import Engine, Limits
from tests.serve.postgres import Cluster, cluster
from tests.serve.scripted_guard import ScriptedGuard
from tests.serve.support import said


class Place(Protocol):
    """Where a chain lies. Scripts name the tables ``decision`` and ``signed``."""

    @property
    def path(self) -> Path: ...

    def opened(self) -> Audit: ...

    def execute(self, script: str) -> None: ...

    def tamper(self, script: str) -> None:
        """What a thief does: the triggers keep from accidents only."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Nobody can write, as on a disk that is full."""
        ...

    def checked(self) -> Checked: ...

    def exported(self) -> list[str]: ...


@dataclass(frozen=True)
class FilePlace:
    path: Path

    def opened(self) -> Audit:
        return Audit(self.path)

    def execute(self, script: str) -> None:
        with closing(sqlite3.connect(self.path)) as rows:
            rows.executescript(script)

    def tamper(self, script: str) -> None:
        self.execute("DROP TRIGGER unchanging; DROP TRIGGER lasting;" + script)

    @contextmanager
    def held(self) -> Generator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def checked(self) -> Checked:
        return audit_check.check(self.path, read_key(key_path(self.path)))

    def exported(self) -> list[str]:
        return list(audit_check.export(self.path))


DATABASE = "contract"


@dataclass(frozen=True)
class PostgresPlace:
    """One instance's chain among those of all tests."""

    server: Cluster
    path: Path
    instance: str = field(default_factory=partial(next, (f"i{n}" for n in itertools.count())))

    @property
    def url(self) -> str:
        return self.server.url(DATABASE)

    def opened(self) -> Audit:
        return Audit(self.path, store=partial(PostgresStore, self.url, self.instance))

    def execute(self, script: str) -> None:
        self.server.execute(DATABASE, "SET search_path = gelert, pg_temp;" + script)

    def tamper(self, script: str) -> None:
        alone = f"WHERE instance <> '{self.instance}'"  # what earlier tests left would be changed as well
        self.execute(
            "ALTER TABLE decision DISABLE TRIGGER USER; ALTER TABLE signed DISABLE TRIGGER USER;"
            f"DELETE FROM decision {alone}; DELETE FROM signed {alone}; {script}"
            "ALTER TABLE decision ENABLE TRIGGER USER; ALTER TABLE signed ENABLE TRIGGER USER;"
        )

    @contextmanager
    def held(self) -> Generator[None]:
        with psycopg.connect(self.server.url(DATABASE, "owner")) as other:
            other.execute("LOCK TABLE gelert.decision IN EXCLUSIVE MODE")
            yield

    def checked(self) -> Checked:
        key = read_key(key_path(self.path))
        return audit_postgres_check.check(self.url, key, self.instance)[self.instance]

    def exported(self) -> list[str]:
        return list(audit_postgres_check.export(self.url, self.instance))


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as found:
        found.made(DATABASE)
        yield found


Making = Callable[[], Place]


@pytest.fixture(scope="module", params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def making(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Making:
    """Makes places, each for a chain of its own."""
    found: Cluster | None = request.getfixturevalue("server") if request.param == "postgres" else None

    def make() -> Place:
        path = tmp_path_factory.mktemp("audit") / "a.db"
        return PostgresPlace(found, path) if found else FilePlace(path)

    return make


@pytest.fixture
def place(making: Making) -> Place:
    return making()


def written(place: Place, count: int) -> Place:
    """The place with ``count`` records more."""
    with place.opened() as audit:
        for done in [audit.append({"at": float(n), "n": n}) for n in range(count)]:
            done.result(timeout=20)
    return place


def test_records_are_numbered_from_one_and_the_chain_is_whole(place: Place) -> None:
    found = written(place, 7).checked()
    assert (found.records, found.first, found.head.number, found.faults) == (7, 1, 7, ())


def test_a_second_start_goes_on_where_the_first_ended(place: Place) -> None:
    found = written(written(place, 3), 4).checked()
    assert (found.records, found.head.number, found.faults) == (7, 7, ())


def test_closing_twice_is_closing(place: Place) -> None:
    with place.opened() as audit:
        audit.append({"n": 1}).result(timeout=10)
        audit.close()
    assert place.checked().faults == ()


def test_two_services_do_not_write_one_chain(place: Place) -> None:
    with place.opened(), pytest.raises(InputError, match="another service"):
        place.opened()


def test_a_chain_can_be_verified_while_it_is_written(place: Place) -> None:
    with place.opened() as audit:
        audit.append({"n": 1}).result(timeout=10)
        found = place.checked()
    assert (found.records, found.faults) == (1, ())


def test_every_thousandth_record_is_signed_for_good(place: Place) -> None:
    found = written(place, 2 * CHECKPOINT_ROWS + 5).checked()
    assert (found.checkpoints, found.faults) == (2, ())


@pytest.mark.parametrize("statement", ["UPDATE decision SET entry = '{}'", "DELETE FROM decision"])
def test_rows_are_not_changed_by_accident(place: Place, statement: str) -> None:
    written(place, 2)
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="only added"):
        place.execute(statement)
    assert place.checked().faults == ()


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_is_changed_in_whichever_row_is_found(making: Making, data: st.DataObject) -> None:
    place = written(making(), 6)
    number = data.draw(st.integers(1, 6))
    column = data.draw(st.sampled_from(["number", "entry", "previous", "hash"]))
    value = 99 if column == "number" else f"'{data.draw(st.text('0123456789abcdef{}', min_size=1))}'"
    place.tamper(f"UPDATE decision SET {column} = {value} WHERE number = {number};")
    assert place.checked().faults


@pytest.mark.parametrize("number", range(1, 7))
def test_a_row_that_was_taken_out_is_found(place: Place, number: int) -> None:
    written(place, 6).tamper(f"DELETE FROM decision WHERE number = {number};")
    assert place.checked().faults


@pytest.mark.parametrize("number", range(1, 8))
def test_a_row_that_was_put_in_is_found(place: Place, number: int) -> None:
    written(place, 6).tamper(
        "CREATE TEMP TABLE another AS SELECT * FROM decision WHERE number = 1;"
        f"UPDATE another SET number = {number};"
        f"UPDATE decision SET number = -number WHERE number >= {number};"
        "UPDATE decision SET number = 1 - number WHERE number < 0;"
        "INSERT INTO decision SELECT * FROM another; DROP TABLE another;"
    )
    assert place.checked().records == 7
    assert place.checked().faults


@pytest.mark.parametrize("count", range(1, 7))
def test_an_end_that_was_cut_off_is_found(place: Place, count: int) -> None:
    written(place, 6).tamper(f"DELETE FROM decision WHERE number > {6 - count};")
    assert place.checked().faults


def test_an_end_that_was_cut_off_with_its_signature_is_found(place: Place) -> None:
    written(written(place, 3), 3).tamper("DELETE FROM decision WHERE number > 3; DELETE FROM signed WHERE number > 3;")
    assert place.checked().faults


def test_a_beginning_that_was_cut_off_at_a_checkpoint_is_found(place: Place) -> None:
    written(place, CHECKPOINT_ROWS + 5).tamper(f"DELETE FROM decision WHERE number <= {CHECKPOINT_ROWS};")
    assert place.checked().faults


def test_rows_that_changed_places_are_found(place: Place) -> None:
    written(place, 4).tamper(
        "UPDATE decision SET number = 99 WHERE number = 2; UPDATE decision SET number = 2 WHERE number = 3;"
        "UPDATE decision SET number = 3 WHERE number = 99;"
    )
    assert place.checked().faults


def test_a_chain_that_was_computed_anew_without_the_key_is_found(place: Place) -> None:
    written(place, 4).tamper("DELETE FROM decision; DELETE FROM signed;")
    key = key_path(place.path)
    key.rename(key.with_suffix(".kept"))
    key.write_bytes(b"k" * 32)
    written(place, 4)
    key.with_suffix(".kept").replace(key)
    assert place.checked().faults


def test_an_emptied_chain_is_found(place: Place) -> None:
    written(place, 4).tamper("DELETE FROM decision;")
    assert place.checked().faults


def test_a_service_does_not_go_on_with_a_chain_that_was_cut(place: Place) -> None:
    written(place, 4).tamper("DELETE FROM decision WHERE number = 4;")
    with pytest.raises(InputError, match="gelert audit verify"):
        place.opened()


def test_a_service_does_not_go_on_with_a_chain_of_another_key(place: Place) -> None:
    written(place, 4)
    key_path(place.path).write_bytes(b"k" * 32)
    with pytest.raises(InputError, match="gelert audit verify"):
        place.opened()


def test_a_decision_that_cannot_be_written_is_degraded_and_the_next_one_is_sound_again(place: Place) -> None:
    async def working() -> list[Answered]:
        engine = Engine(ScriptedGuard(), Policy(), place.opened(), Limits(deadline_seconds=0.4))
        try:
            with place.held():
                full = await engine.decide(Asked(Surface.REPLY, said()))
                assert "disk" in engine.unready
            return [full, await sound_again(engine)]
        finally:
            await engine.close()

    full, sound = asyncio.run(working())
    assert isinstance(full.decision, Block)
    assert full.decision.degraded
    assert (full.number, sound.number, sound.decision) == (0, 1, Allow())
    assert (place.checked().records, place.checked().faults) == (1, ())


async def sound_again(engine: Engine) -> Answered:
    """The first decision that is on record, of a few: a store may take a moment to notice that it can be written."""
    for _ in range(20):
        if (answered := await engine.decide(Asked(Surface.REPLY, said()))).number:
            return answered
    pytest.fail("expected a decision on record once the store can be written again")


def test_export_gives_each_record_with_its_hash(place: Place) -> None:
    rows = written(place, 3).exported()
    assert len(rows) == 3
    assert '"number": 2' in rows[1]
    assert place.checked().head.hash in rows[2]
