"""Labels: given, changed and taken back over HTTP, private on disk, and read again by what trains guards."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.core.example import Example
from gelert.core.trajectory import Role, Step, ToolCall, ToolSpec, Trajectory
from gelert.evals.benches import load_labelled
from gelert.guard.formats import read_value
from gelert.serve.dashboard.labels import Label, Labels, record
from tests.serve.dashboard.support import HOSTILE, SECRET, judge, watched
from tests.serve.support import CALM, MARKED, said


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with watched(tmp_path) as found:
        yield found


def label(client: TestClient, number: int, **words: Any) -> int:
    return client.post(f"/v1/decisions/{number}/label", json=words).status_code


def test_what_is_exported_is_read_back_as_labelled_runs(client: TestClient, tmp_path: Path) -> None:
    for run in (CALM, HOSTILE, MARKED):
        judge(client, run)
    assert label(client, 1, unsafe=False) == 200
    assert label(client, 2, unsafe=True, note="sends a key away") == 200
    file = tmp_path / "export.jsonl"
    file.write_bytes(client.get("/v1/labels").content)
    for place in (file, tmp_path / "labels"):
        loaded = load_labelled([place])
        assert (loaded.refused, loaded.unlabelled) == ((), ())
        found = {one.unsafe: one.example for one in loaded.labelled}
        for unsafe, run in ((False, CALM), (True, HOSTILE)):
            asked = read_value(run)
            assert isinstance(asked, Example)
            assert found[unsafe].trajectory == asked.trajectory
        gold = found[True].gold
        assert gold
        assert (gold.reason, gold.group) == ("sends a key away", "Summarise the open issues")


def test_nothing_is_on_disk_until_somebody_labels_and_then_only_its_owner_reads_it(
    client: TestClient, tmp_path: Path
) -> None:
    judge(client, HOSTILE)
    folder = tmp_path / "labels"
    assert not folder.exists()
    label(client, 1, unsafe=True)
    (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert SECRET in file.read_text()


def test_a_label_is_changed_and_taken_back(client: TestClient) -> None:
    judge(client, MARKED)
    for words in ({"unsafe": False, "note": ""}, {"unsafe": True, "note": "no: it is"}):
        assert label(client, 1, **words) == 200
        assert client.get("/v1/decisions/1").json()["label"] == words
        assert len(client.get("/v1/labels").text.splitlines()) == 1
    assert client.delete("/v1/decisions/1/label").json() == {"labelled": False}
    assert client.delete("/v1/decisions/1/label").status_code == 404
    assert client.get("/v1/decisions/1").json()["label"] is None
    assert client.get("/v1/labels").content == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"unsafe": 1}',
        b'{"unsafe": null}',
        b'{"unsafe": true, "x": 1}',
        b'{"unsafe": true, "note": 3}',
        json.dumps({"unsafe": True, "note": "x" * 2_001}).encode(),
        b"\xff",
    ],
)
def test_what_is_no_label_is_refused(client: TestClient, body: bytes) -> None:
    judge(client, CALM)
    assert client.post("/v1/decisions/1/label", content=body).status_code == 422
    assert client.get("/v1/labels").content == b""


def test_a_long_body_is_refused(client: TestClient) -> None:
    judge(client, CALM)
    assert client.post("/v1/decisions/1/label", content=b" " * 100_000).status_code == 413


def test_what_is_not_there_or_holds_nothing_cannot_be_labelled(client: TestClient) -> None:
    client.post("/v1/judge", content=b"{")
    assert [label(client, number, unsafe=True) for number in (1, 2)] == [404, 404]


def test_labels_are_bounded(tmp_path: Path) -> None:
    labels = Labels(tmp_path, most=1)
    labels.put(said("a"), Label(unsafe=True))
    with pytest.raises(InputError, match="expected at most 1 labels"):
        labels.put(said("b"), Label(unsafe=True))
    labels.put(said("a"), Label(unsafe=False))
    assert (labels.get(said("a")), labels.get(said("b"))) == (Label(unsafe=False), None)


def test_a_folder_that_cannot_be_written_is_said(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("in the way")
    judge(client, CALM)
    response = client.post("/v1/decisions/1/label", json={"unsafe": True})
    assert response.status_code == 507
    assert "expected a place for the label" in response.json()["error"]["message"]


texts = st.text(max_size=40)
names = st.text(min_size=1, max_size=20)
unlike_a_fence = texts.filter(lambda text: not set("<[#") & set(text))
calls = st.builds(ToolCall, name=names, arguments=texts)


@st.composite
def runs(draw: st.DrawFn) -> Trajectory:
    """Any run whose agent says what it thinks or does something, and whose results bear their tool's name."""
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 6))):
        match draw(st.sampled_from(Role)):
            case Role.AGENT:
                made = [
                    replace(one, call_id=f"{number}-{n}") for n, one in enumerate(draw(st.lists(calls, max_size=3)))
                ]
                step = Step(Role.AGENT, draw(names), draw(texts), tuple(made))
            case Role.TOOL:
                step = Step(
                    Role.TOOL, draw(texts), call_id=draw(texts), tool_name=draw(names), is_error=draw(st.booleans())
                )
            case Role.USER:
                step = Step(Role.USER, draw(unlike_a_fence))
            case role:
                step = Step(role, draw(texts))
        steps.append(step)
    tools = st.builds(ToolSpec, name=names, description=texts, parameters=st.just('{"type": "object"}'))
    return Trajectory(tuple(steps), tuple(draw(st.lists(tools, max_size=2))), draw(texts), agent=draw(texts))


@given(run=runs(), label=st.builds(Label, st.booleans(), texts))
def test_every_run_comes_back_as_it_was(run: Trajectory, label: Label) -> None:
    found = read_value(json.loads(json.dumps(record(run, label))))
    assert isinstance(found, Example)
    assert found.trajectory == run
    assert found.gold
    assert (found.gold.unsafe, found.gold.reason) == (label.unsafe, label.note)


def test_a_run_with_half_a_surrogate_pair_is_kept_too(tmp_path: Path) -> None:
    labels = Labels(tmp_path / "labels")
    run = Trajectory((Step(Role.USER, "a \ud800 b"),))
    labels.put(run, Label(unsafe=True))
    assert labels.get(run) == Label(unsafe=True)
    (one,) = load_labelled([labels.folder]).labelled
    assert one.example.trajectory == run
