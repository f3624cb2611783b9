"""Folders of runs: the same bytes whatever interrupts them, torn and changed lines named, read as labelled runs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.evals.benches import RECORDS, load_labelled
from gelert.forge.synthesise_disk import CHUNK, Begun, Config, begin_folder, fill
from gelert.spread.workers import AHEAD, HERE, Workers

CONFIG = Config(n=24, seed=5, worlds=("mail",))


def made(folder: Path, config: Config = CONFIG, workers: Workers = HERE) -> bytes:
    list(fill(begin_folder(folder, config), workers))
    return (folder / RECORDS).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("whole"))


def test_two_processes_give_the_same_bytes_as_one(tmp_path: Path, whole: bytes) -> None:
    assert made(tmp_path, workers=Workers(2)) == whole


def test_another_seed_gives_other_bytes(tmp_path: Path, whole: bytes) -> None:
    assert made(tmp_path, Config(n=24, seed=6, worlds=("mail",))) != whole


@pytest.mark.parametrize("left", [0, 1, 2_000, 30_000])
def test_what_was_cut_anywhere_ends_up_the_same(tmp_path: Path, whole: bytes, left: int) -> None:
    begin_folder(tmp_path, CONFIG)
    (tmp_path / RECORDS).write_bytes(whole[:left])
    begun = begin_folder(tmp_path, CONFIG)
    assert begun.done == whole[:left].count(b"\n")
    assert bool(begun.dropped) == (left > 0 and whole[left - 1 : left] != b"\n")
    assert made(tmp_path) == whole


def test_a_last_line_without_its_line_feed_is_made_again(tmp_path: Path, whole: bytes) -> None:
    begin_folder(tmp_path, CONFIG)
    (tmp_path / RECORDS).write_bytes(whole[:-1])
    begun = begin_folder(tmp_path, CONFIG)
    assert (begun.done, begun.dropped) == (23, f"{tmp_path / RECORDS} line 24")
    assert made(tmp_path) == whole


def test_a_changed_line_is_named_and_made_again_with_those_after_it(tmp_path: Path, whole: bytes) -> None:
    begin_folder(tmp_path, CONFIG)
    lines = whole.split(b"\n")
    lines[3] = lines[3].replace(b'"unsafe":true', b'"unsafe":false', 1).replace(b"agent", b"agemt", 1)
    (tmp_path / RECORDS).write_bytes(b"\n".join(lines))
    begun = begin_folder(tmp_path, CONFIG)
    assert (begun.done, begun.dropped) == (3, f"{tmp_path / RECORDS} line 4")
    assert made(tmp_path) == whole


def test_a_run_that_is_killed_loses_at_most_the_line_it_was_writing(tmp_path: Path) -> None:
    words = ["data", "synthesise", "--n", "3000", "--seed", "5", "--world", "mail", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "gelert.cli.main", *words])
    file = tmp_path / RECORDS
    started = time.monotonic()
    while time.monotonic() - started < 60 and (not file.exists() or file.stat().st_size < 100_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = file.read_bytes()
    assert found
    begun = begin_folder(tmp_path, Config(n=3000, seed=5, worlds=("mail",)))
    assert begun.done == found.count(b"\n")
    more = fill(Begun(begun.folder, begun.config, begun.items[: begun.done + 5], begun.done, ""))
    assert len(list(more)) == 5
    assert begin_folder(tmp_path, begun.config).done == begun.done + 5


def test_a_run_that_is_stopped_by_hand_keeps_what_is_there_and_ends_at_once(tmp_path: Path) -> None:
    words = ["data", "synthesise", "--n", "3000", "--world", "mail", "--workers", "2", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "gelert.cli.main", *words], stderr=subprocess.PIPE)
    file = tmp_path / RECORDS
    started = time.monotonic()
    while time.monotonic() - started < 60 and (not file.exists() or file.stat().st_size < 100_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.strip() == b"gelert: stopped; finished records are kept"
    kept = file.read_bytes()
    assert begin_folder(tmp_path, Config(n=3000, worlds=("mail",))).done == kept.count(b"\n")


def test_more_than_is_sent_ahead_comes_in_order(tmp_path: Path) -> None:
    config = Config(n=2 * AHEAD * CHUNK + 40, seed=1, worlds=("mail",))
    assert made(tmp_path, config, workers=Workers(2)).count(b"\n") == config.n
    assert begin_folder(tmp_path, config).done == config.n


def test_a_folder_of_another_config_is_refused(tmp_path: Path) -> None:
    begin_folder(tmp_path, CONFIG)
    with pytest.raises(InputError, match="another seed"):
        begin_folder(tmp_path, Config(n=24, seed=7, worlds=("mail",)))


def test_a_folder_is_read_as_labelled_runs_grouped_by_family(tmp_path: Path) -> None:
    made(tmp_path)
    loaded = load_labelled([tmp_path])
    assert (len(loaded.labelled), loaded.refused, loaded.unlabelled) == (24, (), ())
    assert {one.source for one in loaded.labelled} == {"worlds"}
    assert all(one.group.startswith("worlds/mail/") for one in loaded.labelled)
    assert sum(one.unsafe for one in loaded.labelled) == 12
    assert len({one.key for one in loaded.labelled}) == 24
    assert load_labelled([tmp_path / RECORDS]) == loaded


def test_a_damaged_line_is_refused_and_the_others_are_read(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / RECORDS).write_bytes(whole.replace(b"agent", b"agemt", 1))
    loaded = load_labelled([tmp_path])
    assert (len(loaded.labelled), [one.line for one in loaded.refused]) == (23, [1])
