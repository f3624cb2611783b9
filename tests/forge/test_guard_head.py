"""Fitting a head: what transfers is kept, what separates sources is not; figures are on runs the fit did not see."""

from dataclasses import replace

import numpy as np
import pytest

from gelert.core.errors import InputError
from gelert.core.example import Example, Gold
from gelert.core.taxonomy import Axis, Diagnosis
from gelert.core.trajectory import Origin, Role, Step, Trajectory
from gelert.evals.benches import Labelled
from gelert.forge.guard_head import FEWEST_OF_A_LEAF, Recipe, fit, fit_axes, frequent, scores
from gelert.forge.make_guard import held_out_scores
from gelert.forge.pool import Pool
from gelert.forge.validate import axes, axes_markdown, margins, markdown, table
from gelert.forge.weak_labels import weak_diagnosis
from gelert.guard.features import Normal

pytest.importorskip("sklearn")


WEAK = Recipe(shrinkage=1.0)
"""Weak shrinkage: the toy has six dimensions, not five hundred."""


def pool(n: int = 60, *, shift: float = 8.0, signal: float = 2.0) -> Pool:
    """Three sources far apart; one direction tells safe from unsafe in all of them."""
    random = np.random.default_rng(0)
    source = np.repeat(["a", "b", "c"], n)
    unsafe = random.random(3 * n) < 0.5
    features = random.normal(size=(3 * n, 2, 6)).astype(np.float32)
    for place, name in enumerate("abc"):
        features[source == name, :, place] += shift
    features[:, :, 5] += signal * np.where(unsafe, 1, -1)[:, None]
    leaf = [
        Diagnosis(harm="privacy_and_confidentiality_harm" if i % 2 else "financial_and_economic_harm")
        for i in range(3 * n)
    ]
    features[1::2, :, 4] += 4
    return Pool(features, unsafe, source, tuple(f"{s}/{i}" for i, s in enumerate(source)), tuple(leaf))


def test_a_head_ranks_a_source_it_has_not_seen() -> None:
    whole = pool()
    held = whole.source == "c"
    head = fit(whole.take(np.flatnonzero(~held)), WEAK)
    z = scores(head, whole.features[held], Normal.of(whole.features[held]))
    assert ((z > 0) == whole.unsafe[held]).mean() > 0.9


def test_what_separates_sources_gets_no_weight() -> None:
    head = fit(pool(shift=50.0))
    signal, source = np.abs(head.verdict[:, 5]).min(), np.abs(head.verdict[:, :3]).max()
    assert signal > 5 * source


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
    assert head.score(whole.features[3]) == pytest.approx(scores(head, whole.features)[3], rel=1e-4)


def test_axis_heads_learn_their_leaves() -> None:
    whole = pool()
    head = fit_axes(fit(whole), whole)
    assert head.classes[Axis.HARM] == ("financial_and_economic_harm", "privacy_and_confidentiality_harm")
    assert Axis.RISK_SOURCE not in head.classes
    normals = whole.normals()
    local = [replace(head, center=normals[str(s)].center, spread=normals[str(s)].spread) for s in whole.source]
    right = [h.diagnosis(f).harm == d.harm for h, f, d in zip(local, whole.features, whole.diagnosis, strict=True)]
    assert np.mean(right) > 0.9


def test_rare_leaves_are_no_answers() -> None:
    assert frequent(["x"] * FEWEST_OF_A_LEAF + ["y"] * (FEWEST_OF_A_LEAF - 1) + [None]) == {"x"}


def test_calibration_scores_come_from_sources_left_out() -> None:
    whole = pool()
    noise = replace(whole, features=np.random.default_rng(1).normal(size=whole.features.shape).astype(np.float32))
    z, unsafe = held_out_scores(noise, recipe=Recipe(shrinkage=100.0))
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
