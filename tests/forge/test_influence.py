"""Influence scores against independent forms: primal algebra, leaving out and fitting again, hand-counted words."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from gelert.core.errors import InputError
from gelert.forge.influence import floors, problem
from gelert.forge.influence import solve as solving
from gelert.forge.influence.methods import cosine, datainf, exact, prism, prism_per_token
from gelert.forge.influence.problem import Problem, Products, Surface, scores
from gelert.forge.influence.registry import FLOORS, METHODS, named
from gelert.forge.influence.sketch import projection, sketched
from gelert.forge.influence.solve import Damped, best_damping, left_out, logistic, solve

Doubles = NDArray[np.float64]
N, M, P = 24, 5, 7


def gradients(seed: int = 0) -> tuple[Doubles, Doubles]:
    random = np.random.default_rng(seed)
    return random.normal(size=(N, P)), random.normal(size=(M, P))


def posed(loss: Literal["squared", "logistic"] = "squared", *, damping: float = 0.5) -> Problem:
    candidates, targets = gradients()
    random = np.random.default_rng(1)
    labels = np.where(candidates[:, 0] + random.normal(size=N) > 0, 1.0, -1.0)
    signs = np.where(targets[:, 0] > 0, 1.0, -1.0)
    lengths = random.integers(1, 4, size=N).astype(np.float64)
    texts = tuple(f"run {i} {'pay ' * (i % 5)}" for i in range(N))
    surface = Surface(texts, tuple(f"run {i}" for i in range(M)), candidates[:, :3], targets[:, :3])
    products = Products.of_gradients(candidates, targets)
    return Problem.posed(products, labels, signs, lengths, loss=loss, damping=damping, surface=surface)


def primal(kept: NDArray[np.intp], of: Problem) -> Doubles:
    """Weights of the ridge in parameter space."""
    rows, n, y = gradients()[0][kept], of.lengths[kept], of.labels[kept]
    curved = rows.T @ (n[:, None] * rows) + of.fit.damping * np.eye(P)
    return np.asarray(np.linalg.solve(curved, rows.T @ (n * y)), dtype=np.float64)


def test_the_fit_in_sample_space_is_the_ridge_of_parameter_space() -> None:
    of = posed()
    assert np.allclose(of.fit.target_margins, gradients()[1] @ primal(np.arange(N), of))


def test_a_logistic_fit_has_no_gradient_left() -> None:
    of, rows = posed("logistic"), gradients()[0]
    dual = solve(of.products.gram, of.labels, of.lengths, "logistic", 0.5).dual
    assert np.allclose(rows.T @ (of.lengths * of.slopes()) + 0.5 * (rows.T @ dual), 0, atol=1e-9)


@pytest.mark.parametrize("left", range(0, N, 5))
def test_exact_influence_is_what_leaving_out_and_fitting_again_gives(left: int) -> None:
    of, targets = posed(), gradients()[1]
    without = targets @ primal(np.delete(np.arange(N), left), of)
    assert np.allclose(exact(of)[:, left], of.signs * (of.fit.target_margins - without), atol=1e-12)


def test_exact_influence_of_a_logistic_fit_is_newtons_step_in_parameter_space() -> None:
    of, (rows, targets) = posed("logistic"), gradients()
    p, left = logistic(of.fit.margins), 3
    curved = of.lengths * p * (1 - p)
    curved[left] = 0
    inverse = np.linalg.inv(rows.T @ (curved[:, None] * rows) + of.fit.damping * np.eye(P))
    moved = targets @ inverse @ rows[left] * of.lengths[left] * of.slopes()[left]
    assert np.allclose(exact(of)[:, left], -of.signs * moved, atol=1e-12)


def test_exact_influence_of_a_logistic_fit_is_near_leaving_out_and_fitting_again() -> None:
    of, rest = posed("logistic", damping=5.0), np.delete(np.arange(N), 3)
    products = of.products.take(rest)
    again = Problem.posed(products, of.labels[rest], of.signs, of.lengths[rest], loss="logistic", damping=5.0)
    change = of.signs * (of.fit.target_margins - again.fit.target_margins)
    assert np.allclose(exact(of)[:, 3], change, atol=0.1 * np.abs(change).max())


def test_prism_is_the_published_contrast_of_loss_gradients() -> None:
    of, (rows, targets) = posed("logistic"), gradients()
    guard = np.zeros(P)
    for target, sign, m in zip(targets, of.signs, of.fit.target_margins, strict=True):
        p_right, p_wrong = (1 / (1 + math.exp(-side * sign * m)) for side in (1, -1))
        g_right, g_wrong = -(1 - p_right) * sign * target, (1 - p_wrong) * sign * target
        guard += p_right / (p_right + p_wrong) * (g_right - g_wrong) / M
    p_label = 1 / (1 + np.exp(-of.labels * of.fit.margins))
    summed = (-of.lengths * (1 - p_label) * of.labels)[:, None] * rows
    assert np.allclose(scores(prism(of)), summed @ guard, atol=1e-14)
    assert np.allclose(scores(prism_per_token(of)), summed / of.lengths[:, None] @ guard, atol=1e-14)


def test_datainf_is_the_mean_of_damped_inverses() -> None:
    of, (rows, targets) = posed("logistic"), gradients()
    g = of.slopes()[:, None] * rows
    damping = 0.1 * (g**2).sum() / (N * P)
    inverse = np.mean([np.linalg.inv(np.outer(x, x) + damping * np.eye(P)) for x in g], axis=0)
    wanted = (-of.signs * logistic(-of.signs * of.fit.target_margins))[:, None] * targets
    assert np.allclose(datainf(of), wanted @ inverse @ g.T, rtol=1e-8)


def test_cosine_is_between_loss_gradients() -> None:
    of, (rows, targets) = posed(), gradients()
    loss, aim = of.slopes()[4] * rows[4], -of.signs[2] * targets[2]
    assert cosine(of)[2, 4] == pytest.approx(loss @ aim / np.linalg.norm(loss) / np.linalg.norm(aim))


def test_a_candidate_like_a_target_helps_it_with_its_label_and_harms_it_with_the_other() -> None:
    candidates, targets = gradients()
    candidates[0], labels = targets[0], np.ones(N)
    for label in (1.0, -1.0):
        labels[0] = label
        own = Problem.posed(Products.of_gradients(candidates, targets), labels, np.ones(M), np.ones(N), damping=5.0)
        for name, method in METHODS.items():
            assert method(own)[0, 0] * label > 0, name


def test_products_in_chunks_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, targets = gradients()
    monkeypatch.setattr(problem, "CHUNK_ROWS", 5)
    found = Products.of_gradients(candidates.astype(np.float32), targets)
    assert np.allclose(found.gram, candidates @ candidates.T, atol=1e-5)
    assert np.allclose(found.cross, targets @ candidates.T, atol=1e-5)


def test_sketched_gradients_have_about_the_same_products() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 3000)) + 1
    found = problem.inner(sketched(rows, projection(3000, 1500)))
    assert 0 < np.abs(found / (rows @ rows.T) - 1).max() < 0.2


def test_a_sketch_is_unbiased() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 40))
    drawn = [sketched(rows, projection(40, 16, seed)) for seed in range(400)]
    errors = np.array([float(a @ b) for a, b in drawn]) - rows[0] @ rows[1]
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(400)


@pytest.mark.parametrize("damping", [0.1, 3.0])
def test_margins_left_out_are_those_of_fits_without_the_candidate(damping: float) -> None:
    of, rows = posed(damping=damping), gradients()[0]
    found = left_out(Damped.of(of.products.gram, of.lengths, damping), of.labels)
    expected = [rows[i] @ primal(np.delete(np.arange(N), i), of) for i in range(N)]
    assert np.allclose(found, expected, atol=1e-10)


def test_margins_of_a_group_left_out_are_those_of_a_fit_without_it() -> None:
    of, rows = posed(), gradients()[0]
    groups = ["abc"[i % 3] for i in range(N)]
    found = left_out(of.damped, of.labels, groups)
    for name in "abc":
        inside = np.array([g == name for g in groups])
        assert np.allclose(found[inside], rows[inside] @ primal(np.flatnonzero(~inside), of), atol=1e-10)


def test_noise_asks_for_more_damping_than_a_signal() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 30))
    signal, noise = np.sign(rows[:, 0]), np.sign(np.random.default_rng(1).normal(size=60))
    found = [best_damping(rows @ rows.T, labels, np.ones(60)) for labels in (signal, noise)]
    assert found[0] < found[1]


@pytest.mark.parametrize("groups", [None, ["abcdef"[i % 6] for i in range(N)]])
def test_the_best_damping_is_that_of_fits_without_each_group(groups: list[str] | None) -> None:
    of, rows = posed(), gradients()[0]
    names = np.array(groups or [str(i) for i in range(N)])
    errors: dict[float, float] = {}
    for damping in np.geomspace(1e-3, 1e3, 13) * (of.lengths * (rows**2).sum(1)).mean():
        again, missed = replace(of, fit=replace(of.fit, damping=damping)), np.empty(N)
        for name in np.unique(names):
            inside = names == name
            missed[inside] = of.labels[inside] - rows[inside] @ primal(np.flatnonzero(~inside), again)
        errors[damping] = (missed**2).mean()
    found = best_damping(of.products.gram, of.labels, of.lengths, groups)
    assert found == pytest.approx(min(errors, key=lambda d: errors[d]))


def test_of_many_candidates_a_draw_chooses_about_the_same_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 30))
    labels = np.sign(rows[:, 0] + np.random.default_rng(1).normal(size=400))
    given = (rows @ rows.T, labels, np.ones(400), [str(i % 50) for i in range(400)])
    whole = best_damping(*given)
    monkeypatch.setattr(solving, "DRAWN", 200)
    drawn = [best_damping(*given, seed=seed) for seed in range(5)]
    assert drawn == [best_damping(*given, seed=seed) for seed in range(5)]
    assert all(whole / 11 < found < whole * 11 for found in drawn)  # two of thirteen steps between 1e-3 and 1e3


def test_the_factor_gives_the_inverse_of_the_damped_curvature() -> None:
    for of in (posed(), posed("logistic")):
        p = logistic(of.fit.margins)
        root = np.sqrt(of.lengths * (p * (1 - p) if of.fit.loss == "logistic" else 1))
        inverse = np.linalg.inv(root[:, None] * of.products.gram * root + 0.5 * np.eye(N))
        assert np.allclose(of.damped.solve(np.eye(N)), inverse, atol=1e-12)
        assert np.allclose(of.damped.diagonal, np.diag(inverse), atol=1e-12)
        assert np.allclose(of.damped.block([1, 5, 9]), inverse[np.ix_([1, 5, 9], [1, 5, 9])], atol=1e-12)


def test_other_labels_share_the_factor_of_a_ridge_and_fit_as_if_posed_anew() -> None:
    for loss in ("squared", "logistic"):
        of = posed(loss)
        again = of.relabelled(-of.labels)
        assert (again.damped is of.damped) == (loss == "squared")
        assert np.allclose(again.fit.margins, -of.fit.margins, atol=1e-9)


def test_bm25_is_the_formula_counted_by_hand() -> None:
    found = floors.okapi(["Pay the bill, pay!", "read mail"], ["pay pay now"])
    idf = math.log(1 + 1.5 / 1.5)
    assert found[0, 0] == pytest.approx(idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 4 / 3)))
    assert found[0, 1] == 0


def test_words_and_states_count_for_the_same_label_and_against_the_other() -> None:
    of = posed()
    for method in (floors.bm25, floors.representation):
        assert np.allclose(method(replace(of, labels=-of.labels)), -method(of))
        assert np.abs(method(of)).max() > 0


def test_the_most_uncertain_candidate_is_first_by_margin() -> None:
    of = posed()
    assert np.argmax(scores(floors.margin(of))) == np.argmin(np.abs(of.fit.margins))


def test_a_flipped_label_agrees_least_with_the_others() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3)) + np.repeat([[4.0], [-4.0]], 10, axis=0)
    labels = np.repeat([1.0, -1.0], 10)
    labels[6] = -1.0
    of = Problem.posed(Products.of_gradients(rows, rows[:1]), labels, np.ones(1), np.ones(20))
    assert np.argmin(scores(floors.agreement(of))) == 6


def test_diversity_takes_one_of_each_cluster_first() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(4) * 10, 5, axis=0) + random.normal(size=(20, 4)) * 0.01
    of = Problem.posed(Products.of_gradients(rows, rows[:1]), np.ones(20), np.ones(1), np.ones(20))
    first = np.argsort(-scores(floors.diversity(of)))[:4]
    assert sorted(i // 5 for i in first) == [0, 1, 2, 3]


def test_random_runs_of_the_targets_length_come_first() -> None:
    of = posed()
    surface = replace(of.seen(), texts=tuple("x" * (10 if i % 2 else 1000) for i in range(N)), target_texts=("x" * 11,))
    found = scores(floors.length_matched()(replace(of, surface=surface)))
    assert found[1::2].min() > found[::2].max()


def test_every_method_gives_one_number_a_target_and_candidate_and_the_same_again() -> None:
    of = posed()
    for name in METHODS | FLOORS:
        found = named(name, seed=3)(of)
        assert found.shape == (M, N), name
        assert np.isfinite(found).all(), name
        assert np.array_equal(found, named(name, seed=3)(of)), name
    assert len(METHODS | FLOORS) == 12


def test_what_cannot_be_scored_is_refused() -> None:
    of = posed()
    with pytest.raises(InputError, match="expected one of exact, prism"):
        named("magic")
    with pytest.raises(InputError, match="texts and states"):
        floors.bm25(replace(of, surface=None))
    with pytest.raises(InputError, match="in every part"):
        replace(of, labels=of.labels[1:])
    with pytest.raises(InputError, match="damping above 0"):
        Problem.posed(of.products, of.labels, of.signs, of.lengths, damping=0.0)
    with pytest.raises(InputError, match="damped curvature is positive"):
        Damped.of(-of.products.gram, of.lengths, 0.5)
    with pytest.raises(InputError, match="products of shapes"):
        replace(of.products, gram=of.products.gram[1:])
