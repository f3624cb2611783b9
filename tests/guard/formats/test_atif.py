"""ATIF goes out valid by the format's own models, and comes back equal."""

import json

import atif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gelert.core.trajectory import Provenance, Role, Setting, Step, ToolCall, ToolSpec, Trajectory
from gelert.guard.formats import write_atif
from tests.guard.formats.reading import roles, run, step_with
from tests.guard.formats.samples import SAMPLES

ROUND = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

TEXT = st.text(max_size=12) | st.sampled_from(["<system-reminder>x</system-reminder>y", "two\nlines", "  "])
IDS = st.sampled_from(["", "c1", "c2", "c1 ", "\u00e9"])
ARGUMENTS = st.sampled_from(
    ["{}", '{"a": 1}', '{"a":1}', '{"a": 1, "a": 2}', "[1]", '{"a": NaN}', "not json", "", '"x"']
)
CALLS = st.lists(st.builds(ToolCall, TEXT, ARGUMENTS | TEXT, IDS), max_size=3).map(tuple)
STAMPS = st.sampled_from(["", "2026-01-01T00:00:00Z", "yesterday"])
ORIGINS = st.builds(Provenance, timestamp=STAMPS)
PLAIN = st.builds(Step, st.sampled_from([Role.SYSTEM, Role.USER, Role.RUNTIME]), TEXT, provenance=ORIGINS)
AGENT = st.builds(Step, st.just(Role.AGENT), TEXT, TEXT, CALLS, provenance=ORIGINS)
TOOL = st.builds(
    Step, st.just(Role.TOOL), TEXT, call_id=IDS, tool_name=TEXT, is_error=st.booleans(), provenance=ORIGINS
)
SPECS = st.lists(st.builds(ToolSpec, TEXT.filter(bool), TEXT, ARGUMENTS.filter(bool)), max_size=2).map(tuple)
TRAJECTORIES = st.builds(
    Trajectory,
    st.lists(PLAIN | AGENT | TOOL | TOOL, min_size=1, max_size=8).map(tuple),
    SPECS,
    TEXT,
    st.sampled_from(Setting),
    TEXT,
)


@ROUND
@given(trajectory=TRAJECTORIES)
def test_a_trajectory_comes_back_equal(trajectory: Trajectory) -> None:
    written = json.dumps(write_atif(trajectory))
    assert run(json.loads(written)) == trajectory


@ROUND
@given(trajectory=TRAJECTORIES)
def test_what_is_written_is_valid_by_the_formats_own_models(trajectory: Trajectory) -> None:
    atif.Trajectory.model_validate(write_atif(trajectory))


@ROUND
@given(trajectory=TRAJECTORIES)
def test_what_the_models_write_again_is_read_the_same(trajectory: Trajectory) -> None:
    again = atif.Trajectory.model_validate(write_atif(trajectory)).to_json_dict()
    assert run(again) == trajectory


@ROUND
@given(trajectory=TRAJECTORIES)
def test_timestamps_come_back(trajectory: Trajectory) -> None:
    back = run(json.loads(json.dumps(write_atif(trajectory))))
    assert [x.provenance.timestamp for x in back.steps] == [x.provenance.timestamp for x in trajectory.steps]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_formats_run_goes_through_atif_unchanged(name: str) -> None:
    made = run(SAMPLES[name].make())
    assert run(write_atif(made)) == made


def test_our_sample_is_valid_by_the_formats_own_models() -> None:
    atif.Trajectory.model_validate(SAMPLES["atif"].make())


def test_a_result_stands_in_the_observation_of_its_call() -> None:
    made = Trajectory((Step(Role.AGENT, calls=(ToolCall("f", "{}", "c1"),)), Step(Role.TOOL, "out", call_id="c1")))
    steps = atif.Trajectory.model_validate(write_atif(made)).steps
    assert steps[0].observation is not None
    assert [(x.source_call_id, x.content) for x in steps[0].observation.results] == [("c1", "out")]


def test_a_subagents_steps_follow_the_result_that_refers_to_it() -> None:
    assert roles(run(SAMPLES["atif"].make())) == "suatraar"


def test_a_subagents_request_is_the_runtimes() -> None:
    step = step_with(run(SAMPLES["atif"].make()), 'tok_sub"')
    assert (step.role, step.provenance.kind) == (Role.RUNTIME, "subagent")


def test_a_continuation_is_named_and_not_fetched() -> None:
    assert "was not read" in run(SAMPLES["atif"].make()).steps[-1].text
