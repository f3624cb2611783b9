"""Fitting a head: what transfers is kept, what separates sources is not; figures are on runs the fit did not see."""

from dataclasses import replace

import numpy as np
import pytest

from gelert.core.errors import InputError
from gelert.core.example import Example, Gold
from gelert.core.taxonomy import Axis, Diagnosis
from gelert.core.trajectory import Origin, Role, Step, Trajectory
from gelert.evals.benches import WORLDS, Labelled
from gelert.forge.guard_head import (
    FEWEST_OF_A_LEAF,
    TRAIT_WEIGHT,
    Recipe,
    blank_map,
    fit,
    fit_axes,
    frequent,
    normalised,
    scores,
    vectors,
)
from gelert.forge.make_guard import held_out_scores
from gelert.forge.pool import Pool, matrix
from gelert.forge.validate import axes, axes_markdown, margins, markdown, table
from gelert.forge.weak_labels import weak_diagnosis
from gelert.guard.head import Features, Normal
from gelert.guard.traits import TRAITS
from gelert.guard.words import BINS, TERMS, Counts, weighed

pytest.importorskip("sklearn")


WEAK = Recipe(ridge=0.3)
"""A weak penalty: the toy has six dimensions, not five hundred."""


def pool(n: int = 60, *, shift: float = 8.0, signal: float = 2.0) -> Pool:
    """Three sources far apart; one direction tells safe from unsafe in all of them."""
    random = np.random.default_rng(0)
    source = np.repeat(["a", "b", "c"], n)
    unsafe = random.random(3 * n) < 0.5
    states = random.normal(size=(3 * n, 2, 6)).astype(np.float32)
    for place, name in enumerate("abc"):
        states[source == name, :, place] += shift
    states[:, :, 5] += signal * np.where(unsafe, 1, -1)[:, None]
    counts = [_counts(random, int(u), "abc".index(str(s)), signal) for u, s in zip(unsafe, source, strict=True)]
    leaf = [
        Diagnosis(harm="privacy_and_confidentiality_harm" if i % 2 else "financial_and_economic_harm")
        for i in range(3 * n)
    ]
    states[1::2, :, 4] += 4
    groups = tuple(f"{s}/{i}" for i, s in enumerate(source))
    traits = random.normal(size=(3 * n, TRAITS)).astype(np.float32)
    traits[:, 0] += signal * np.where(unsafe, 1, -1)
    return Pool(states, matrix(counts), traits, np.arange(3 * n), unsafe, source, groups, tuple(leaf), 1)


def _counts(random: np.random.Generator, unsafe: int, source: int, signal: float) -> Counts:
    """Term 0 or 1 by class where there is a signal, 2 to 4 by source, and noise."""
    own = [unsafe] if signal else []
    terms = np.unique([*own, 2 + source, *random.integers(10, 40, size=6), BINS + int(random.integers(0, 9))])
    return Counts(terms, np.ones(len(terms), np.float32))


def one(whole: Pool, window: int) -> Features:
    row = whole.words[window]
    return Features(whole.states[window], Counts(row.indices.astype(np.int64), row.data), whole.traits[window])


def test_a_head_ranks_a_source_it_has_not_seen() -> None:
    whole = pool()
    held = whole.source == "c"
    head = fit(whole.take(np.flatnonzero(~held)), WEAK)
    test = whole.take(np.flatnonzero(held))
    z = scores(normalised(head, test), test)
    assert ((z > 0) == whole.unsafe[held]).mean() > 0.9


def test_what_separates_sources_gets_no_weight() -> None:
    head = fit(pool(shift=50.0))
    signal, source = np.abs(head.verdict[:, 5]).min(), np.abs(head.verdict[:, :3]).max()
    assert signal > 5 * source
    by_class, by_source = np.abs(head.words.weights[:2]).min(), np.abs(head.words.weights[2:5]).max()
    assert by_class > 5 * by_source


def test_a_source_with_one_class_is_not_given_away_by_its_style() -> None:
    whole = pool(shift=50.0)
    unsafe = whole.unsafe & (whole.source != "c")
    assert replace(whole, unsafe=unsafe).mixed() == ["a", "b"]


def test_one_class_cannot_be_fitted() -> None:
    whole = pool()
    with pytest.raises(InputError, match="safe and unsafe"):
        fit(replace(whole, unsafe=np.zeros_like(whole.unsafe)))


def test_the_heads_score_is_the_batch_score() -> None:
    whole = pool()
    head = fit(whole)
    assert head.score(one(whole, 3)) == pytest.approx(scores(head, whole)[3], rel=1e-4)
    here = normalised(head, whole)
    there = head.normalised([one(whole, i) for i in range(len(whole.owner))])
    assert here.score(one(whole, 3)) == pytest.approx(there.score(one(whole, 3)), rel=1e-4)


def test_vectors_are_those_the_guard_makes() -> None:
    whole = pool()
    idf = np.random.default_rng(0).random(TERMS).astype(np.float32)
    row = vectors(whole.words, idf)[7]
    assert np.allclose(row.data, weighed(one(whole, 7).words, idf), atol=1e-6)


def test_the_dual_solution_is_the_ridge_regression_of_the_primal_form() -> None:
    whole = pool(20)
    recipe = Recipe(ridge=2.0)
    head = fit(whole, recipe)
    scale = 1 / np.sqrt(6)  # one readout and one pooled layer: two blocks of six
    flat = (whole.standard(whole.states) * scale).reshape(len(whole.owner), -1)
    traits = head.traits.cosines(whole.standard(whole.traits)) * np.sqrt(TRAIT_WEIGHT)
    cosines = traits.shape[1]
    words = vectors(whole.words, head.words.idf)[:, : 2 * BINS].toarray()
    for own in [whole.source == name for name in "abc"]:
        words[own] -= words[own].mean(0)
    used = np.abs(words).sum(0) > 0
    design = np.hstack([flat, traits, words[:, used], np.ones((len(flat), 1))])
    penalty = recipe.ridge * np.eye(design.shape[1])
    penalty[-1, -1] = 0
    target = np.where(whole.unsafe, 1.0, -1.0)
    primal = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    assert np.allclose(head.verdict.ravel(), primal[:12] * scale, atol=1e-5)
    assert np.allclose(head.traits.weights, primal[12 : 12 + cosines] * np.sqrt(TRAIT_WEIGHT), atol=1e-5)
    assert np.allclose(head.words.weights[: 2 * BINS][used], primal[12 + cosines : -1], atol=1e-5)
    assert head.bias == pytest.approx(primal[-1], abs=1e-6)


def test_the_cosines_inner_products_are_the_kernel() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(40, TRAITS)).astype(np.float32)
    mapped = blank_map(Normal.of(x)).cosines(x)
    wanted = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / TRAITS)
    assert np.abs(mapped @ mapped.T - wanted).mean() < 0.03


def test_a_synthesised_run_counts_for_less() -> None:
    whole = pool(20)
    made = replace(whole, source=np.where(whole.source == "c", WORLDS, whole.source))
    light, equal = fit(made, Recipe(worlds_weight=1e-6)), fit(made, Recipe(worlds_weight=1.0))
    without = fit(made.take(np.flatnonzero(made.source != WORLDS)))
    far = np.abs(equal.verdict - without.verdict).max()
    assert np.abs(light.verdict - without.verdict).max() < 0.1 * far  # rarity is still counted over all


def test_a_runs_score_is_that_of_its_worst_window() -> None:
    whole = pool(10)
    head = fit(whole)
    owner = np.repeat(np.arange(15), 2)
    labels = (whole.unsafe[:15], whole.source[:15], whole.group[:15], whole.diagnosis[:15])
    halves = Pool(whole.states, whole.words, whole.traits, owner, *labels, 1)
    assert np.allclose(scores(head, halves), scores(head, whole).reshape(15, 2).max(1))
    assert np.allclose(scores(head, halves.take([4, 2])), scores(head, halves)[[4, 2]])


def test_axis_heads_learn_their_leaves() -> None:
    whole = pool()
    head = fit_axes(fit(whole), whole)
    assert head.classes[Axis.HARM] == ("financial_and_economic_harm", "privacy_and_confidentiality_harm")
    assert Axis.RISK_SOURCE not in head.classes
    normals, traits = whole.normals(whole.states), whole.normals(whole.traits)
    local = [
        replace(head, normal=normals[str(s)], traits=replace(head.traits, normal=traits[str(s)])) for s in whole.source
    ]
    right = [h.diagnosis(one(whole, i)).harm == whole.diagnosis[i].harm for i, h in enumerate(local)]
    assert np.mean(right) > 0.9


def test_what_a_world_knows_counts_more_than_a_weak_label() -> None:
    """Sources a and c call odd runs privacy, b calls them financial: where b is the synthesised one, b is believed."""
    whole = pool(20)
    harms = [d.harm for d in whole.diagnosis]
    other = {harms[0]: harms[1], harms[1]: harms[0]}
    said = tuple(Diagnosis(harm=other[h] if s == "b" else h) for h, s in zip(harms, whole.source.tolist(), strict=True))
    named = np.where(whole.source == "b", WORLDS, whole.source)
    agreed: list[float] = []
    for source in (whole.source, named):
        mixed = replace(whole, diagnosis=said, source=source)
        head = fit_axes(fit(mixed), mixed, replace(Recipe(), weak_weight=0.01))
        normals, traits = mixed.normals(mixed.states), mixed.normals(mixed.traits)
        own = [i for i in range(60) if source[i] == source[20]]
        local = replace(
            head, normal=normals[str(source[20])], traits=replace(head.traits, normal=traits[str(source[20])])
        )
        agreed.append(float(np.mean([local.diagnosis(one(mixed, i)).harm == said[i].harm for i in own])))
    assert agreed[1] > 0.9 > agreed[0] + 0.2


def test_rare_leaves_are_no_answers() -> None:
    assert frequent(["x"] * FEWEST_OF_A_LEAF + ["y"] * (FEWEST_OF_A_LEAF - 1) + [None]) == {"x"}


def test_calibration_scores_come_from_sources_left_out() -> None:
    z, unsafe = held_out_scores(pool(signal=0.0), recipe=Recipe(ridge=1e-3))
    right = np.mean([(a > 0) == b for a, b in zip(z, unsafe, strict=True)])
    assert 0.35 < right < 0.65  # a fit that had seen them would separate pure noise


def examples(whole: Pool) -> list[Labelled]:
    """Runs whose words say nothing."""
    found: list[Labelled] = []
    for i, (unsafe, source) in enumerate(zip(whole.unsafe, whole.source, strict=True)):
        steps = (Step(Role.USER, f"please do task number {i % 7}"), Step(Role.AGENT, "done and done again"))
        run = Trajectory(steps, origin=Origin(f"{source}/runs.json", i))
        found.append(Labelled(Example(run, Gold(unsafe=bool(unsafe), group=str(i))), str(source)))
    return found


def test_the_table_holds_both_splits_the_guard_and_every_floor() -> None:
    whole = pool(30)
    rows = table(examples(whole), whole, WEAK, folds=3)
    assert {r.split for r in rows} == {"in-source", "left out"}
    assert {r.judge for r in rows if r.split == "left out"} == {
        "guard", "guard, calibrated", "always unsafe", "turn count", "turn count, calibrated", "word count",
        "word count, calibrated",
    }  # fmt: skip
    told = margins(rows)
    assert len(told) == 4
    mean = float(told[2].split("mean ")[1].split(",")[0])
    assert told[2].startswith("left out: guard, calibrated minus word count: mean")
    assert mean > 0.2
    assert markdown(rows).count("\n") == len(rows) + 1


def test_axes_are_scored_on_runs_the_fit_did_not_see_and_beside_the_commonest_leaf() -> None:
    rows = axes(pool(), WEAK, folds=3)
    harm = next(r for r in rows if r.axis is Axis.HARM)
    assert (harm.runs, harm.leaves) == (180, 2)
    assert harm.accuracy > 0.9 > harm.commonest == 0.5
    assert axes_markdown(rows).count("\n") == len(Axis) + 1


def test_weak_labels_come_from_the_annotators_words_and_for_unsafe_runs_only() -> None:
    said = Gold(
        unsafe=True,
        reason="The attacker's instruction was injected into the return value and leaked private data.",
    )
    assert weak_diagnosis(said) == Diagnosis(
        "indirect_prompt_injection", "failure_to_validate_tool_outputs", "privacy_and_confidentiality_harm"
    )
    assert weak_diagnosis(replace(said, unsafe=False)) == Diagnosis()
    assert weak_diagnosis(Gold(unsafe=True, reason="Hm.")) == Diagnosis()


def test_a_published_label_is_never_overruled_by_a_weak_one() -> None:
    given = Gold(unsafe=True, diagnosis=Diagnosis(harm="physical_and_health_harm"), reason="money was lost")
    assert weak_diagnosis(given).harm == "physical_and_health_harm"
