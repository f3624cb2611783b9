"""``gelert convert`` writes ATIF, names what it could not read, and says so by its exit code."""

import json
from pathlib import Path

import atif
import pytest
from click.testing import CliRunner, Result

from gelert.cli.convert import command
from gelert.cli.main import main
from gelert.core.errors import InputError

RUN = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "h\ud800i"}]}


def convert(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(command, list(words), input=given)


def written(path: Path, *values: object) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def test_one_run_gives_one_document(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    assert convert(written(tmp_path / "in.json", RUN), str(target), "--to", "atif").exit_code == 0
    assert json.loads(target.read_text())["schema_version"] == "ATIF-v1.8"


def test_several_runs_give_json_lines(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    convert(written(tmp_path / "in.jsonl", RUN, RUN, RUN), str(target))
    assert len([json.loads(line) for line in target.read_text().splitlines()]) == 3


def test_a_target_named_jsonl_is_json_lines(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    convert(written(tmp_path / "in.json", RUN), str(target))
    assert len(target.read_text().splitlines()) == 1


def test_standard_streams_are_named_by_a_dash() -> None:
    given = {"messages": [{"role": "user", "content": "hello"}]}
    assert atif.Trajectory.model_validate_json(convert("-", "-", given=json.dumps(given)).stdout).steps[0].message


def test_what_cannot_be_read_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    done = convert(written(tmp_path / "in.jsonl", RUN, {"colour": "blue"}, RUN), str(target))
    assert (done.exit_code, "line 2" in done.stderr, len(target.read_text().splitlines())) == (2, True, 2)


def test_nothing_read_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    done = convert(written(tmp_path / "in.json", {"colour": "blue"}), str(target))
    assert (done.exit_code, target.exists()) == (2, False)


def test_an_unknown_format_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="morse"):
        CliRunner().invoke(
            command, [written(tmp_path / "in.json", RUN), "-", "--format", "morse"], catch_exceptions=False
        )


def test_a_target_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    words = [written(tmp_path / "in.json", RUN), str(tmp_path / "none" / "out.json")]
    with pytest.raises(InputError, match="place to write"):
        CliRunner().invoke(command, words, catch_exceptions=False)


def test_the_exit_code_reaches_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "in.json", {"colour": "blue"})
    monkeypatch.setattr("sys.argv", ["gelert", "convert", source, str(tmp_path / "out.json")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
