"""An adapter's gradients on a tiny model: the windows of the head, sketched, kept, and gone on with after a kill."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gelert.backends.local import LocalModel
from gelert.cli.data_influence import purify
from gelert.core.errors import InputError, RecordError
from gelert.forge.influence.adapter import SKETCH_DIMENSIONS, AdapterDesign, AdapterReader, adapter_problem
from gelert.forge.influence.problem import inner
from gelert.forge.influence.store import GradientStore
from gelert.forge.make_guard import QUESTION, PoolReader
from gelert.forge.purify import Fate, read
from gelert.forge.twins import twins
from gelert.guard.windows import WindowPlan
from gelert.lm import bank
from gelert.lm.gradients import margin
from gelert.lm.model import tiny
from gelert.lm.trunk import Trunk
from tests.forge.test_influence_cli import record

SHORT = WindowPlan(window_tokens=600, overlap_tokens=128, task_tokens=64)
MODEL = LocalModel(tiny(width=32, dtype="float32"))


def reader(folder: Path, *, blocks: int = 2, rank: int = 2) -> AdapterReader:
    return AdapterReader(MODEL, AdapterDesign(QUESTION, blocks, rank, SHORT), folder)


def test_the_windows_are_those_that_the_head_reads_and_end_with_the_question(tmp_path: Path) -> None:
    runs = twins(1)[:6]
    pool = PoolReader(MODEL, (("\n", 2),), (1,), SHORT, "float32").pool(runs)
    found = [list(reader(tmp_path).windows(item.example.trajectory)) for item in runs]
    assert [len(windows) for windows in found] == np.bincount(pool.owner).tolist()
    assert max(map(len, found)) > 1
    for window in (window for windows in found for window in windows):
        assert MODEL.model.decode(window).endswith(f"{QUESTION} ")  # bytes: the answers differ after the blank
        assert len(window) < SHORT.window_tokens + 100


def test_a_gradient_foretells_what_a_small_step_does_to_the_margin(tmp_path: Path) -> None:
    own = reader(tmp_path, blocks=1, rank=1)
    (window, *_) = own.windows(twins(1)[0].example.trajectory)
    found = own.gradient(window)
    trunk, factors = Trunk(MODEL.model, 3), bank.new(MODEL.model, [bank.Spec(1)], blocks_from=3)
    answers = tuple(MODEL.encode(word)[0] for word in "su")
    before = margin(trunk, factors, window, (answers[0], answers[1])).item()
    place = 0
    for pair in factors.pairs.values():
        place += pair.down.numel()  # nothing moves by A while B is zero
        assert not found[place - pair.down.numel() : place].any()
        with torch.no_grad():
            pair.up.add_(torch.from_numpy(found[place : place + pair.up.numel()]).sign().view_as(pair.up), alpha=1e-3)
        place += pair.up.numel()
    assert place == len(found) == own.width
    moved = margin(trunk, factors, window, (answers[0], answers[1])).item() - before
    assert moved == pytest.approx(1e-3 * np.abs(found).sum(), rel=0.05)


def test_a_sketch_keeps_about_the_products_and_another_design_is_kept_apart(tmp_path: Path) -> None:
    wide, runs = reader(tmp_path, blocks=4, rank=8), twins(1)[:3]
    assert wide.parameters > SKETCH_DIMENSIONS == wide.width
    whole = replace(wide, design=replace(wide.design, rank=8))
    rows = wide.gradients(runs)
    object.__setattr__(whole, "_projection", None)  # of the same adapter, without the sketch
    windows = [window for item in runs for window in wide.windows(item.example.trajectory)]
    exact = inner(np.stack([whole.gradient(window) for window in windows]))
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert 0 < np.abs((inner(rows) - exact) / scale).max() < 0.1
    assert len({wide.fingerprint, reader(tmp_path).fingerprint, reader(tmp_path, rank=3).fingerprint}) == 3


def test_a_changed_gradient_is_found_before_it_is_used(tmp_path: Path) -> None:
    runs = twins(1)[:2]
    own = reader(tmp_path)
    own.gradients(runs)
    (rows,) = tmp_path.glob("*/rows.f32")
    rows.write_bytes(b"\x01" * 4 + rows.read_bytes()[4:])
    with pytest.raises(RecordError, match="expected row 0"):
        own.gradients(runs)


def test_gradients_of_other_windows_than_the_pools_are_refused(tmp_path: Path) -> None:
    runs = twins(1)[:4]
    pool = PoolReader(MODEL, (("\n", 2),), (1,), SHORT, "float32").pool(runs)
    with pytest.raises(InputError, match="expected a gradient of each of"):
        adapter_problem(reader(tmp_path).gradients(runs)[1:], 1, pool, runs, [0])


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with as many blocks as the default design reads, in a folder."""
    path = tmp_path_factory.mktemp("tall")
    model = tiny(layers=14, width=16, dtype="float32")
    model.net.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


def words(data: Path, model: Path, cache: str) -> list[str]:
    fixed = [str(data / "pool"), "--targets", str(data / "targets"), "--features", str(data / cache), "--budget", "4"]
    return [*fixed, "--model", str(model), "--gradients", "adapter", "--out", str(data / f"{cache}.jsonl")]


def test_a_killed_purification_goes_on_and_chooses_what_one_that_was_not_chooses(tmp_path: Path, tall: Path) -> None:
    rows = [record(item) for item in twins(1)]
    for name, part in (("pool", rows[:8]), ("targets", rows[8:12])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "runs.jsonl").write_text("\n".join(map(json.dumps, part)))
    command = [sys.executable, "-m", "gelert.cli.main", "data", "purify", *words(tmp_path, tall, "killed")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    index = lines(tmp_path)
    while len(index) < 3 and running.poll() is None:
        time.sleep(0.02)
        index = lines(tmp_path)
    running.send_signal(signal.SIGKILL)
    _, said = running.communicate()
    assert running.returncode == -signal.SIGKILL, said
    before = lines(tmp_path)
    for cache in ("killed", "whole"):
        told = CliRunner().invoke(purify, words(tmp_path, tall, cache), catch_exceptions=False)
        assert told.exit_code == 0, told.output
    assert 3 <= len(before) < len(lines(tmp_path))
    assert lines(tmp_path)[: len(before)] == before  # nothing was made twice
    chosen, whole = read(tmp_path / "killed.jsonl"), read(tmp_path / "whole.jsonl")
    assert chosen == whole
    assert 0 < sum(choice.fate is Fate.KEEP for choice in chosen) <= 4
    assert {c.stratum.split(",")[0] for c in chosen if c.fate is Fate.KEEP} == {"safe", "unsafe"}


def lines(data: Path) -> list[str]:
    """What the index of the killed run's gradients holds."""
    found = list((data / "killed").glob("gradients/*/index.jsonl"))
    return found[0].read_text().splitlines() if found else []


def test_an_adapter_needs_a_folder_for_its_gradients(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text(json.dumps(record(twins(1)[0])))
    with pytest.raises(InputError, match="expected --features FOLDER"):
        CliRunner().invoke(
            purify,
            [str(tmp_path), "--targets", str(tmp_path), "--budget", "1", "--gradients", "adapter", "--out", "x"],
            catch_exceptions=False,
        )


def test_a_window_that_comes_twice_is_differentiated_once(tmp_path: Path) -> None:
    runs = twins(1)[:2]
    own = reader(tmp_path)
    found = own.gradients([*runs, *runs])
    half = len(found) // 2
    assert np.array_equal(found[:half], found[half:])
    kept = len(GradientStore.open(tmp_path, own.fingerprint, own.width))
    assert kept == len({tuple(w) for item in runs for w in own.windows(item.example.trajectory)}) <= half
