"""Records: what is written is read back, and what was edited is found."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core import records
from gelert.core.errors import RecordError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4))
def test_records_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("records") / "rows.jsonl"
    assert records.write(path, "thing", 1, rows) == len(rows)
    assert list(records.read(path, "thing", 1)) == rows


def test_an_edited_record_is_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records.write(path, "thing", 1, [{"risk": 1}])
    path.write_text(path.read_text().replace('"risk":1', '"risk":0'))
    with pytest.raises(RecordError, match="line 1"):
        list(records.read(path, "thing", 1))


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records.write(path, "thing", 2, [{}])
    with pytest.raises(RecordError, match="version 2"):
        list(records.read(path, "thing", 1))


def test_an_interrupted_append_loses_only_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records.append(path, "thing", 1, {"n": 1})
    with path.open("a") as stream:
        stream.write('{"kind":"thing","da')
    assert list(records.read(path, "thing", 1)) == [{"n": 1}]


def test_appending_after_an_interrupted_append_keeps_both_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records.append(path, "thing", 1, {"n": 1})
    with path.open("a") as stream:
        stream.write('{"kind":"thing","da')
    records.append(path, "thing", 1, {"n": 2})
    assert list(records.read(path, "thing", 1)) == [{"n": 1}, {"n": 2}]


def test_a_line_that_is_no_record_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[1, 2]\n")
    with pytest.raises(RecordError, match=r"rows\.jsonl line 1"):
        list(records.read(path, "thing", 1))
