"""Each format is told by its content, whatever the file is called and however it is laid out."""

import gzip
import json
from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Setting
from gelert.guard.formats import FORMATS, Ignored, read, read_value, read_values
from tests.guard.formats.reading import examples, from_text, lines, refusals, run, tokens, told
from tests.guard.formats.samples import SAMPLES


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(FORMATS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_is_detected_as_its_own_format(name: str) -> None:
    assert run(SAMPLES[name].make()).origin.format == name


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_read_by_name_is_the_record_read_by_content(name: str) -> None:
    assert run(SAMPLES[name].make(), name) == run(SAMPLES[name].make())


@pytest.mark.parametrize("name", SAMPLES)
def test_no_token_of_a_record_is_lost(name: str) -> None:
    made = SAMPLES[name].make()
    assert tokens(json.dumps(made)) <= tokens(told(run(made)))


@pytest.mark.parametrize("name", SAMPLES)
def test_no_label_of_a_record_reaches_the_trajectory(name: str) -> None:
    assert "secret" not in told(run(SAMPLES[name].make()))


@pytest.mark.parametrize("name", [n for n, s in SAMPLES.items() if not s.session and n != "otel"])
def test_an_array_of_records_gives_an_example_each(name: str) -> None:
    found = from_text(json.dumps([SAMPLES[name].make()] * 3, indent=1))
    assert [x.trajectory.origin.format for x in examples(found)] == [name] * 3


@pytest.mark.parametrize("name", [n for n, s in SAMPLES.items() if not s.session and n != "otel"])
def test_lines_of_records_give_an_example_each(name: str) -> None:
    found = from_text(lines([SAMPLES[name].make()] * 3))
    assert [x.trajectory.origin.record for x in examples(found)] == [0, 1, 2]


@pytest.mark.parametrize("name", [n for n, s in SAMPLES.items() if s.session])
def test_lines_of_a_session_give_one_example(name: str) -> None:
    found = from_text(lines(SAMPLES[name].make()))
    assert [x.trajectory.origin.format for x in examples(found)] == [name]


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_bare_messages_a_line_are_one_run(name: str) -> None:
    made = SAMPLES[name].make()
    found = from_text(lines(made["messages"]))
    assert [x.trajectory.origin.format for x in examples(found)] == [name]


def test_files_of_several_formats_are_read_line_by_line() -> None:
    made = [SAMPLES["tau-bench"].make(), SAMPLES["toolemu"].make(), SAMPLES["atif"].make()]
    found = from_text(lines(made))
    assert [x.trajectory.origin.format for x in examples(found)] == ["tau-bench", "toolemu", "atif"]


def test_a_bad_line_is_refused_by_its_number_and_the_rest_go_on() -> None:
    found = from_text(lines([SAMPLES["toolemu"].make()]) + "{broken\n\n" + lines([SAMPLES["toolemu"].make()]))
    assert [(x.line, len(examples(found))) for x in refusals(found)] == [(2, 2)]


def test_a_bad_line_of_a_session_is_refused_and_the_session_is_read() -> None:
    found = from_text(lines(SAMPLES["codex"].make()) + '{"timestamp": "t", "type": "resp\n')
    assert ([x.line for x in refusals(found)], len(examples(found))) == ([18], 1)


def test_an_unknown_object_is_refused_with_its_keys() -> None:
    assert "'flavour'" in refusals(from_text('{"flavour": "mint"}'))[0].reason


def test_labels_without_runs_are_refused_once_and_by_name() -> None:
    label = {"trajectory_id": 1, "failures": [], "root_cause": {}, "failure_summary": ""}
    assert ["labels" in x.reason for x in refusals(from_text(json.dumps([label] * 4)))] == [True]


def test_a_folder_is_read_in_order_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.jsonl").write_text(lines([SAMPLES["toolemu"].make()]))
    (tmp_path / "deep" / "a.traj").write_text(json.dumps(SAMPLES["swe-agent"].make()))
    (tmp_path / "LICENSE").write_text("free")
    assert [x.trajectory.origin.format for x in examples(list(read(tmp_path)))] == ["toolemu", "swe-agent"]


def test_a_json_file_that_is_no_trajectory_is_refused_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"colour": "blue"}')
    assert len(refusals(list(read(tmp_path)))) == 1


def test_gzip_is_told_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(gzip.compress(json.dumps(SAMPLES["openai"].make()).encode()))
    assert len(examples(list(read(path)))) == 1


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "nowhere.json")


def test_an_unknown_format_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="swe-agent"):
        read_value({}, format="morse")


def test_a_setting_that_is_given_overrides_the_formats_own() -> None:
    found = read_value(SAMPLES["codex"].make(), setting=Setting.OPENCLAW)
    assert isinstance(found, Example)
    assert found.trajectory.setting == Setting.OPENCLAW


def test_several_runs_in_one_value_are_never_chosen_from() -> None:
    made = SAMPLES["inspect"].make()
    twice = {**made, "samples": made["samples"] * 2}
    assert (isinstance(read_value(twice), Refusal), len(read_values(twice))) == (True, 2)


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    path, notes = tmp_path / "rollout.jsonl", list[Ignored]()
    path.write_text(lines(SAMPLES["codex"].make()))
    list(read(path, notes=notes))
    assert {"world_state": 1, "turn_context": 1}.items() <= {note.kind: note.count for note in notes}.items()
