"""Picks are those of fitting again each time; wrong labels are reported, not picked; every stratum gets its share."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gelert.core.errors import InputError, RecordError
from gelert.forge.influence.methods import prism
from gelert.forge.influence.problem import Problem, Products, scores
from gelert.forge.purify import Fate, Names, greedy, purify, quotas, read, suspects, until_best, write

Doubles = NDArray[np.float64]


def planted(runs: int = 40, *, noise: float = 0.7, seed: int = 0) -> Problem:
    """One direction of six tells the label."""
    random = np.random.default_rng(seed)
    labels, signs = (np.where(random.random(k) < 0.5, 1.0, -1.0) for k in (runs, 8))
    rows, targets = (random.normal(size=(len(y), 6)) for y in (labels, signs))
    for x, y in ((rows, labels), (targets, signs)):
        x[:, 0] = y + noise * x[:, 0]
    lengths = random.integers(1, 4, size=runs).astype(np.float64)
    return Problem.posed(Products.of_gradients(rows, targets), labels, signs, lengths, damping=2.0)


def names(problem: Problem, strata: tuple[str, ...] | None = None) -> Names:
    n, m = len(problem.labels), len(problem.signs)
    return Names(
        tuple(f"run {i}" for i in range(n)),
        tuple(f"target {t}" for t in range(m)),
        strata or ("one",) * n,
        tuple(map(str, range(n))),
    )


def error(problem: Problem, kept: list[int]) -> float:
    """Half the targets' mean squared error after a fit to these candidates alone."""
    part = problem.products.take(np.array(kept, dtype=np.intp))
    system = part.gram + problem.fit.damping * np.diag(1 / problem.lengths[kept])
    margins = part.cross @ np.linalg.solve(system, problem.labels[kept])
    return float(((problem.signs - margins) ** 2).mean() / 2)


def test_each_pick_is_the_best_of_all_fits_with_one_run_more() -> None:
    problem = planted()
    kept: list[int] = []
    before = 0.5
    for number, gain in greedy(problem, ["one"] * 40, {"one": 6}, np.zeros(40, dtype=np.bool_)):
        tried = {i: error(problem, [*kept, i]) for i in range(40) if i not in kept}
        assert number == min(tried, key=lambda i: tried[i])
        assert gain == pytest.approx(before - tried[number], abs=1e-12)
        kept.append(number)
        before = tried[number]
    assert len(kept) == 6


def test_a_copy_of_a_pick_is_worth_less_than_it_was_alone() -> None:
    problem = planted()
    first = next(iter(greedy(problem, ["one"] * 40, {"one": 1}, np.zeros(40, dtype=np.bool_))))[0]
    twice = np.append(np.arange(40), first)
    copied = replace(problem.products.take(twice), squares=problem.products.squares)
    again = Problem.posed(copied, problem.labels[twice], problem.signs, problem.lengths[twice], damping=2.0)
    gains = dict(greedy(again, ["one"] * 41, {"one": 41}, np.zeros(41, dtype=np.bool_)))
    values = sorted((gains.get(i, 0.0) for i in (first, 40)), reverse=True)
    assert values[1] < values[0] / 2


def test_picks_end_where_the_targets_error_is_least() -> None:
    assert until_best([(4, 0.5), (1, -0.2), (7, 0.4), (2, -0.1)]) == [(4, 0.5), (1, -0.2), (7, 0.4)]
    problem = planted(noise=3.0)
    found = purify(problem, names(problem), 40)
    kept = sorted((c for c in found if c.rank is not None), key=lambda c: c.rank or 0)
    errors = [error(problem, [found.index(c) for c in kept[: k + 1]]) for k in range(len(kept))]
    assert errors[-1] == pytest.approx(min(errors))
    assert any(c.reason == "the targets gain nothing by more" for c in found)


def test_a_planted_wrong_label_is_suspect_and_never_picked() -> None:
    clean = planted(80, noise=0.1)
    turned = clean.relabelled(np.where(np.arange(80) % 16 == 3, -clean.labels, clean.labels))
    found = purify(turned, names(turned), 80)
    fates = {i for i, choice in enumerate(found) if choice.fate is Fate.SUSPECT}
    assert fates == {3, 19, 35, 51, 67}
    assert not suspects(clean, names(clean).groups).any()
    assert "the other candidates say the opposite" in found[3].reason


def test_a_twin_is_no_witness_against_its_twin() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(10, 30)), 2, axis=0)
    labels = np.tile([1.0, -1.0], 10)
    products = Products.of_gradients(rows, rows[:1])
    twins = Problem.posed(products, labels, np.ones(1), np.ones(20), damping=0.1)
    assert suspects(twins, [str(i) for i in range(20)]).all()
    assert not suspects(twins, [str(i // 2) for i in range(20)]).any()


def test_each_stratum_gets_its_share_and_every_candidate_a_reason_and_its_nearest_targets() -> None:
    problem = planted()
    strata = tuple("rare" if i < 4 else "common" for i in range(40))
    for method in (None, prism):
        found = purify(problem, names(problem, strata), 12, method=method)
        kept = [c for c in found if c.fate is Fate.KEEP]
        by_stratum = {s: sum(c.stratum == s for c in kept) for s in ("rare", "common")}
        room = quotas([c.stratum for c in found if c.fate is not Fate.SUSPECT], 12)
        assert all(by_stratum[s] <= room[s] for s in room)
        assert sorted(c.rank for c in kept if c.rank is not None) == list(range(len(kept)))
        assert all(c.reason and len(c.nearest) == 3 and c.nearest[0].startswith("target") for c in found)


def test_a_named_method_keeps_its_highest_scores() -> None:
    problem = planted()
    found = purify(problem, names(problem), 10, method=prism)
    worth = scores(prism(problem))
    usable = [i for i in np.argsort(-worth).tolist() if found[i].fate is not Fate.SUSPECT]
    assert {i for i, c in enumerate(found) if c.fate is Fate.KEEP} == set(usable[:10])


@pytest.mark.parametrize(("budget", "expected"), [(1, (0, 1)), (2, (1, 1)), (10, (3, 7)), (99, (10, 40))])
def test_quotas_fill_the_budget_by_size(budget: int, expected: tuple[int, int]) -> None:
    assert quotas(["a"] * 10 + ["b"] * 40, budget) == {"a": expected[0], "b": expected[1]}


def test_choices_are_the_same_again_and_survive_the_disk(tmp_path: Path) -> None:
    problem = planted()
    found = purify(problem, names(problem), 10)
    assert found == purify(problem, names(problem), 10)
    write(tmp_path / "chosen.jsonl", found)
    assert read(tmp_path / "chosen.jsonl") == found
    (tmp_path / "chosen.jsonl").write_text((tmp_path / "chosen.jsonl").read_text().replace("run 7", "run 8"))
    with pytest.raises(RecordError, match="line 8"):
        read(tmp_path / "chosen.jsonl")


def test_what_cannot_be_purified_is_refused() -> None:
    problem = planted()
    with pytest.raises(InputError, match="budget of at least 1"):
        purify(problem, names(problem), 0)
    with pytest.raises(InputError, match="40 names, strata and groups"):
        purify(problem, names(problem, ("one",)), 5)
    logistic = replace(problem, fit=replace(problem.fit, loss="logistic"))
    with pytest.raises(InputError, match="squared loss"):
        purify(logistic, names(problem), 5)
