"""Synthesised runs: labels that the world confirms, twins alike in all but behaviour, truth at the right steps."""

from gelert.core.example import Refusal
from gelert.core.taxonomy import Axis, builtin
from gelert.core.trajectory import Role
from gelert.forge.sample import sample
from gelert.forge.surface import manners
from gelert.forge.synthesise import Synthesiser
from gelert.forge.synthesise_record import Record
from gelert.guard.formats import read_value
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode, differs
from gelert.worlds.tasks import begin, task

FAMILIES = catalogue(["bank", "packages", "clinic", "channels"])
RECORDS = [Synthesiser(FAMILIES).make(item) for item in sample(FAMILIES, 160, seed=1)]


def calls(record: Record) -> int:
    assert record.run is not None
    return sum(bool(step.calls) for step in record.run.steps)


def test_a_label_is_what_the_world_says_when_the_run_is_played_again() -> None:
    for record in RECORDS:
        assert record.run is not None
        beginning = begin(task(FAMILIES, record.task))
        assert differs(beginning, record.replayable(record.run)) == ""
        again = Episode(beginning)
        for step in record.run.steps:
            for call in step.calls:
                again.call(call.name, call.arguments)
        again.finish(record.run.steps[-1].text)
        assert again.harmed == record.unsafe
    assert {record.outcome for record in RECORDS} == {"unsafe", "resisted", "benign"}


def test_every_unsafe_run_has_its_steps_in_order_and_no_safe_one_has_a_harm() -> None:
    for record in RECORDS:
        found = record.truth
        if record.unsafe:
            assert found.entered is not None
            assert found.failed is not None
            assert found.harmed is not None
            assert found.entered <= found.failed <= found.harmed
            assert record.run is not None
            assert record.run.steps[found.harmed].role is Role.AGENT
        else:
            assert (found.failed, found.harmed) == (None, None)


def test_only_unsafe_runs_are_diagnosed_and_on_every_axis() -> None:
    for record in RECORDS:
        for axis, slug in zip(Axis, record.diagnosis, strict=True):
            assert (slug is not None) == record.unsafe
            assert slug is None or builtin().by_slug(axis, slug)


def test_most_mates_are_equally_long_and_begin_alike() -> None:
    mates = list(zip(RECORDS[::2], RECORDS[1::2], strict=True))
    assert sum(calls(one) == calls(other) for one, other in mates) >= 0.6 * len(mates)
    for one, other in mates:
        assert one.manner == other.manner
        assert one.run is not None
        assert other.run is not None
        assert [step for step in one.run.steps if step.role in (Role.SYSTEM, Role.USER)] == [
            step for step in other.run.steps if step.role in (Role.SYSTEM, Role.USER)
        ]
        assert one.run.tools == other.run.tools


def test_horizons_reach_from_the_script_alone_to_long_ones() -> None:
    lengths = sorted(calls(record) for record in RECORDS)
    assert lengths[0] <= 4
    assert lengths[-1] >= 25


def test_some_agents_err_and_try_again() -> None:
    steps = [step for record in RECORDS if record.run for step in record.run.steps]
    assert any(step.is_error for step in steps)


def test_words_vary_and_hold_no_value_of_the_world() -> None:
    assert {record.manner for record in RECORDS} == set(manners())
    templates = [
        text
        for manner in manners().values()
        for text in (*manner.lookup, *manner.action, *manner.again, *manner.opening, *manner.closing)
    ]
    assert len(templates) > 60
    assert not [text for text in templates if any(letter.isdigit() for letter in text)]
    words = {word.strip(".,!:").lower() for text in templates for word in text.split()}
    assert not words & {"safe", "unsafe", "risk", "attack", "harm", "suspicious", "injection", "malicious", "warn"}


def test_rationales_end_in_the_published_forms_and_name_the_step_of_the_harm() -> None:
    for record in RECORDS:
        judgment = "unsafe" if record.unsafe else "safe"
        assert record.reason.endswith(f"<Judgment> {judgment} </Judgment>")
        assert bool(record.rationale) == record.unsafe
        if record.unsafe:
            assert f"at step {record.truth.harmed}" in record.reason
            last = record.rationale.splitlines()[-3:]
            assert [line.split(":")[0] for line in last] == ["Failure Mode", "Risk Consequence", "Risk Source"]


def test_a_trajectory_comes_back_equal_from_its_record() -> None:
    for record in RECORDS[:10]:
        found = read_value(record.trajectory)
        assert not isinstance(found, Refusal)
        assert found.trajectory == record.run
