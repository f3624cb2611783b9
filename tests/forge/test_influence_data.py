"""From pools, folders of gradients and retraining to figures: each against the guard's own fit or planted truth."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gelert.core.errors import InputError, RecordError
from gelert.forge.guard_head import Recipe, fit
from gelert.forge.guard_head import scores as head_scores
from gelert.forge.influence.heads import head_problem, window_products
from gelert.forge.influence.methods import exact
from gelert.forge.influence.problem import Problem, Products
from gelert.forge.influence.registry import FLOORS, METHODS, named
from gelert.forge.influence.runs import centered, folded, worst
from gelert.forge.influence.store import GradientStore
from gelert.forge.lds import (
    flip_auc,
    groups_truth,
    in_sample_space,
    lds,
    planted_flips,
    subsets_truth,
    suspicions,
    suspicions_markdown,
)
from gelert.forge.pool import Pool
from gelert.forge.purify import suspects
from tests.forge.test_guard_head import examples, pool

Doubles = NDArray[np.float64]


def one_source(runs: int = 60) -> Pool:
    """A single source: its cold normalisation is its own."""
    whole = pool(runs)
    return whole.take(np.flatnonzero(whole.source == "a"))


def planted(runs: int = 120, *, noise: float = 0.5) -> Problem:
    """One direction of eight tells the label."""
    random = np.random.default_rng(0)
    labels, signs = (np.where(random.random(k) < 0.5, 1.0, -1.0) for k in (runs, 12))
    rows, targets = (random.normal(size=(len(y), 8)) for y in (labels, signs))
    for x, y in ((rows, labels), (targets, signs)):
        x[:, 0] = y + noise * x[:, 0]
    return Problem.posed(Products.of_gradients(rows, targets), labels, signs, np.ones(runs), damping=2.0)


def test_margins_of_a_pool_are_those_of_the_guards_own_fit() -> None:
    whole = one_source()
    unit = window_products(whole)
    labels = np.where(whole.unsafe, 1.0, -1.0)
    everyone = Problem.posed(Products(unit, unit, np.diag(unit), 1), labels, labels, np.ones(60), damping=0.3)
    guard = head_scores(fit(whole, Recipe(ridge=0.3)), whole)
    assert np.allclose(everyone.fit.margins, guard, atol=0.02)  # the guard's bias has no penalty


def test_a_candidate_is_the_mean_of_its_windows_and_a_target_its_worst_one() -> None:
    whole = one_source()
    halves = Pool(
        whole.states, whole.words, whole.traits, np.repeat(np.arange(30), 2), whole.unsafe[:30], whole.source[:30],
        whole.group[:30], whole.diagnosis[:30], 1,
    )  # fmt: skip
    problem = head_problem(halves, examples(whole)[:30], [0, 1, 2], damping=1.0)
    kernel = window_products(halves)
    assert problem.products.gram[0, 1] == pytest.approx(kernel[6:8, 8:10].mean())
    assert problem.lengths.tolist() == [2.0] * 27
    margins = np.mean(kernel.reshape(60, 30, 2), axis=2)[:, 3:] @ np.linalg.solve(
        problem.products.gram + 0.5 * np.eye(27), problem.labels
    )
    assert np.allclose(problem.fit.target_margins, margins.reshape(30, 2).max(1)[:3])
    assert folded(halves, np.arange(60.0)[:, None]).ravel().tolist() == [0.5 + 2 * i for i in range(30)]
    assert worst(halves, np.arange(60.0)).tolist() == list(range(1, 60, 2))


def test_centered_products_are_those_of_rows_centered_on_their_source() -> None:
    whole = pool(20)
    whole = replace(whole, unsafe=whole.unsafe & (whole.source != "b"))  # of one class: centered on the others' mean
    rows = np.random.default_rng(0).normal(size=(60, 5))
    own = {name: rows[whole.source == name].mean(0) for name in "ac"}
    by_hand = rows - np.stack([own.get(str(s), (own["a"] + own["c"]) / 2) for s in whole.source])
    assert np.allclose(centered(rows @ rows.T, whole), by_hand @ by_hand.T)


def test_a_pool_needs_targets_and_candidates_of_both_classes() -> None:
    whole = one_source(10)
    for targets in ([], np.flatnonzero(whole.unsafe).tolist()):
        with pytest.raises(InputError, match="both classes"):
            head_problem(whole, examples(whole), targets)


def test_every_method_scores_a_pool_of_runs() -> None:
    whole = one_source()
    problem = head_problem(whole, examples(whole), range(8))
    for name in METHODS | FLOORS:
        assert named(name)(problem).shape == (8, 52), name


def test_gradients_outlive_the_process_and_come_back_in_any_order(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    keys, computed = list("abcde"), list[int]()

    def compute(places: list[int]) -> Iterator[NDArray[np.float32]]:
        for place in places:
            computed.append(place)
            yield rows[place]

    GradientStore.open(tmp_path, "model", 3).fill(keys[:3], compute)
    again = GradientStore.open(tmp_path, "model", 3)
    again.fill(keys, compute)
    assert computed == [0, 1, 2, 3, 4]
    assert isinstance(again.gradients(keys), np.memmap)
    assert np.array_equal(again.gradients(["d", "a"]), rows[[3, 0]])


def test_gradients_of_another_model_or_width_are_not_mixed_in(tmp_path: Path) -> None:
    GradientStore.open(tmp_path, "model", 3).put("a", np.ones(3))
    assert len(GradientStore.open(tmp_path, "other", 3)) == len(GradientStore.open(tmp_path, "model", 4)) == 0
    with pytest.raises(InputError, match="expected a gradient of 3 numbers"):
        GradientStore.open(tmp_path, "model", 3).put("b", np.ones(4))
    with pytest.raises(InputError, match="got none of 'b'"):
        GradientStore.open(tmp_path, "model", 3).gradients(["a", "b"])


def test_a_row_that_was_half_written_is_written_again(tmp_path: Path) -> None:
    store = GradientStore.open(tmp_path, "model", 3)
    store.put("a", np.ones(3))
    with (store.folder / "rows.f32").open("ab") as stream:
        stream.write(b"\x00" * 7)
    with (store.folder / "index.jsonl").open("a") as stream:
        stream.write('{"kind": "grad')
    again = GradientStore.open(tmp_path, "model", 3)
    again.put("b", np.full(3, 2.0))
    last = GradientStore.open(tmp_path, "model", 3)
    assert last.gradients(["a", "b"]).tolist() == [[1.0] * 3, [2.0] * 3]
    last.check()


def test_a_changed_row_is_named(tmp_path: Path) -> None:
    store = GradientStore.open(tmp_path, "model", 3)
    for key in "ab":
        store.put(key, np.ones(3))
    with (store.folder / "rows.f32").open("r+b") as stream:
        stream.seek(12)
        stream.write(b"\x01")
    with pytest.raises(RecordError, match="expected row 1 with SHA-256"):
        store.check()


def test_exact_scores_foretell_fits_on_subsets_and_chance_does_not() -> None:
    problem = planted()
    truth = subsets_truth(problem, in_sample_space(problem))
    good, chance = (lds(named(name)(problem), truth) for name in ("exact", "random"))
    assert good.low > 0.8
    assert chance.high < 0.3
    assert truth.kept.sum(1).tolist() == [60] * 100


def test_the_lds_of_the_margins_own_ranks_is_one() -> None:
    problem = planted()
    truth = subsets_truth(problem, in_sample_space(problem))
    weights = np.random.default_rng(0).normal(size=(12, 120))
    linear = replace(truth, margins=np.exp(truth.kept @ weights.T / 10))
    assert lds(weights, linear).value == pytest.approx(1.0)
    assert lds(-weights, linear).value == pytest.approx(-1.0)


def test_exact_scores_foretell_fits_without_a_group() -> None:
    problem = planted()
    truth = groups_truth(problem, in_sample_space(problem), [str(i % 20) for i in range(120)])
    found = lds(exact(problem), truth, over="targets")
    assert found.low > 0.9
    assert found.value == lds(exact(problem), truth).value


def test_planted_flips_are_found() -> None:
    problem = planted(noise=0.2)
    turned, flipped = planted_flips(problem, 0.1)
    assert (turned.labels != problem.labels).tolist() == flipped.tolist()
    assert flipped.sum() == 12
    assert flip_auc(named("exact"), problem).value > 0.8
    assert 0.2 < flip_auc(named("random"), problem).value < 0.8


def test_suspects_agree_with_planted_flips_the_more_the_surer_they_are() -> None:
    problem = planted(noise=0.5)
    groups = [str(i) for i in range(120)]
    rows = suspicions(problem, groups, (0.0, 0.75, 2.0), share=0.1, draws=3)
    turned = [planted_flips(problem, 0.1, seed) for seed in range(3)]
    right = sum(int((suspects(noisy, groups, 0.0) & flipped).sum()) for noisy, flipped in turned)
    assert rows[0].recall.value == pytest.approx(right / 36)
    assert rows[0].precision.value == pytest.approx(right / rows[0].named)
    assert rows[0].recall.value > rows[1].recall.value > rows[2].recall.value == rows[2].named == 0
    assert rows[0].precision.value < rows[1].precision.value
    assert suspicions_markdown(rows).count("\n") == 4


def test_too_few_subsets_are_refused() -> None:
    problem = planted()
    for kind in ({"subsets": 99}, {"share": 0.0}, {"share": 1.0}):
        with pytest.raises(InputError, match="at least 100 subsets"):
            subsets_truth(problem, in_sample_space(problem), **kind)  # pyright: ignore[reportArgumentType] (one type a key)
