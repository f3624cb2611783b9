import json
from dataclasses import replace
from pathlib import Path

import pytest

from gelert.core.errors import InputError, RecordError
from gelert.lm.loop import Step, Training
from gelert.memory import keep
from gelert.memory.cells import Setup, Sweep, grid, grouped, read, setup_of
from gelert.memory.recall import phase, stubbornness, tokens

CELLS = grid([1, 6], [6, 12], ["sft", "memft-ot"], [0, 1])


def quiet(_done: int, _total: int, _what: str) -> None:
    pass


def setup(folder: Path, **more: object) -> Setup:
    plain = Setup(model=str(folder), block=1, steps=12, learning_rate=0.02, group_tokens=40)
    return replace(plain, **more)  # pyright: ignore[reportArgumentType]


def test_a_sweep_certifies_every_cell(folder: Path, tmp_path: Path) -> None:
    Sweep(tmp_path, setup(folder), CELLS).run(quiet)
    found = read(tmp_path)
    assert {record.cell for record in found} == set(CELLS)
    assert setup_of(tmp_path) == setup(folder)
    for record in found:
        own = tokens(tmp_path, record)
        assert record.tokens == len(own.losses) == record.cell.length
        assert record.final == pytest.approx(own.losses.mean(), rel=1e-5)
        assert record.final < record.initial
        assert record.violations == 0
        assert (record.first_failure is None) == (record.exact == 1.0) == bool(own.right.all())
        if record.first_failure is not None:
            assert record.doubtful is not None
            assert record.doubtful <= record.first_failure
    seen = phase(tmp_path, found)
    assert (seen.violations, seen.early) == (0, 0)
    assert seen.failing == sum(record.exact < 1 for record in found)
    assert stubbornness(tmp_path, found, 12).shape == (12,)


def test_an_interrupted_sweep_goes_on_exactly(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Sweep(whole, setup(folder), CELLS).run(quiet)
    real, calls = keep.finish, 0

    def stops(training: Training, path: Path, _each: object) -> float:
        nonlocal calls
        calls += 1

        def told(step: Step) -> bool:
            if calls == 2 and step.number == 5:
                raise KeyboardInterrupt
            return True

        return real(training, path, told)

    monkeypatch.setattr("gelert.memory.cells.finish", stops)
    with pytest.raises(KeyboardInterrupt):
        Sweep(broken, setup(folder), CELLS).run(quiet)
    monkeypatch.undo()
    assert 0 < len(read(broken)) < len(CELLS)
    assert len(list((broken / "partial").iterdir())) == 1
    Sweep(broken, setup(folder), CELLS).run(quiet)
    assert [replace(record, seconds=0.0) for record in read(broken)] == [
        replace(record, seconds=0.0) for record in read(whole)
    ]
    assert not list((broken / "partial").iterdir())


def test_cells_trained_by_several_processes_are_the_same(folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    Sweep(one, setup(folder), CELLS[:6]).run(quiet)
    Sweep(two, setup(folder), CELLS[:6]).run(quiet, workers=2)
    found = [{record.cell: replace(record, seconds=0.0) for record in read(path)} for path in (one, two)]
    for cell in CELLS[:6]:
        assert found[0][cell].final == pytest.approx(found[1][cell].final, abs=1e-4)


def test_an_interrupt_reaches_all_processes_and_they_keep_what_they_reached(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def stops(done: int, total: int, _what: str) -> None:
        assert done < total
        if done:
            raise KeyboardInterrupt

    long = setup(folder, steps=20_000)
    with pytest.raises(KeyboardInterrupt):
        Sweep(tmp_path, long, CELLS[:6]).run(stops, workers=2)
    assert list((tmp_path / "partial").glob("*.pt"))
    assert read(tmp_path) == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")
def test_cells_trained_by_a_cluster_are_the_same(folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    Sweep(one, setup(folder), CELLS[:6]).run(quiet)
    Sweep(two, setup(folder), CELLS[:6]).run(quiet, ray="local")
    found = [{record.cell: record.final for record in read(path)} for path in (one, two)]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


@pytest.mark.parametrize("method", ["sft", "memft-ot", "memft-sw", "cramming"])
@pytest.mark.parametrize(
    "more",
    [
        {"corpus": "phone-book", "batch": 2},
        {"numeric": "paper"},
        {"placement": "linear"},
        {"corpus": "text", "text": str(Path(__file__)), "noise": 0.5},
    ],
    ids=["phone-book", "paper", "linear", "text"],
)
def test_every_method_runs_in_every_setup(folder: Path, tmp_path: Path, method: str, more: dict[str, object]) -> None:
    Sweep(tmp_path, setup(folder, steps=4, **more), grid([2], [3], [method])).run(quiet)
    (record,) = read(tmp_path)
    assert record.steps <= 4
    assert record.final != record.initial


def test_certified_cells_stop_early(folder: Path, tmp_path: Path) -> None:
    Sweep(tmp_path, setup(folder, steps=200, until=0.3), grid([8], [4])).run(quiet)
    (record,) = read(tmp_path)
    assert record.exact == 1.0
    assert record.steps < 200


def test_groups_hold_neighbours_within_the_budget(folder: Path) -> None:
    groups = list(grouped(setup(folder), CELLS))
    assert sorted(cell.name for group in groups for cell in group) == sorted(cell.name for cell in CELLS)
    assert all(len(group) * max(cell.length for cell in group) <= 40 for group in groups)


def test_a_folder_of_another_setup_or_damaged_is_refused(folder: Path, tmp_path: Path) -> None:
    Sweep(tmp_path, setup(folder), CELLS)
    with pytest.raises(InputError, match="another"):
        Sweep(tmp_path, setup(folder, steps=13), CELLS)
    (tmp_path / "cells.jsonl").write_text(json.dumps({"kind": "x"}) + "\n")
    with pytest.raises(RecordError, match=r"cells\.jsonl"):
        read(tmp_path)
    with pytest.raises(InputError, match="sweep's folder"):
        setup_of(tmp_path / "nothing")
    with pytest.raises(InputError, match="methods among"):
        grid([1], [1], ["magic"])
    with pytest.raises(InputError, match="of 1 or more"):
        grid([0], [1])
