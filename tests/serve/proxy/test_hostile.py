"""Whatever a client or an upstream sends: an answer in time, never a 500, and nothing past the guard.

However the network cuts a stream, the decision and the bytes are the same.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gelert.core.verdict import Unsafe
from gelert.guard.formats.limits import Limits as LogLimits
from gelert.guard.formats.run import Malformed
from gelert.serve.proxy.app import JUDGED
from gelert.serve.proxy.candidate import candidate
from gelert.serve.proxy.upstream import Held
from tests.serve.proxy.wire import PATHS, QUICK, SSE, STREAMS, Client, Scripted, asks, proxied, recorded
from tests.serve.scripted_guard import MARK, ScriptedGuard

MODULES = {name: JUDGED[path.removeprefix("v1/")] for name, path in PATHS.items()}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = sorted(set(re.findall(r'"(\w+)":', b"".join(p.read_bytes() for p in STREAMS.glob("*.sse")).decode())))
"""Every key of the recorded streams."""
NEARLY = st.recursive(
    JSON | st.sampled_from(["assistant", "response.output_item.done", "content_block_delta", "message", "x.delta"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), NEARLY, max_size=8)


@pytest.fixture(scope="module")
def upstream() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, upstream: Scripted) -> Iterator[Client]:
    with proxied(tmp_path_factory.mktemp("proxy"), upstream, ScriptedGuard()) as found:
        yield found


SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", ["chat_calls", "responses_reply", "messages_calls"])
@pytest.mark.parametrize("mark", [False, True])
@SLOW
@given(cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_any_chunking_gives_the_same_decision_and_bytes(
    client: Client, upstream: Scripted, name: str, *, mark: bool, cuts: list[int]
) -> None:
    raw = recorded(name)
    if mark:
        raw = raw.replace(b"tidy", b"UNSAFE").replace(b"-notes", b"-MARK")
    edges = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
    upstream.chunks, upstream.kind = [raw[a:b] for a, b in itertools.pairwise(edges)], SSE
    dialect = name.partition("_")[0]
    got = client.post(PATHS[dialect], asks(dialect))
    assert got.headers["x-gelert-decision"] == ("block" if mark else "allow")
    assert (got.body == raw) is not mark
    assert MARK.encode() not in got.raw


@pytest.mark.parametrize("dialect", PATHS)
@SLOW
@given(body=st.binary(max_size=60) | OBJECTS.map(lambda value: json.dumps(value).encode()))
def test_a_hostile_request_is_answered(client: Client, upstream: Scripted, dialect: str, body: bytes) -> None:
    upstream.chunks, upstream.kind = [recorded(f"{dialect}_reply")], SSE
    got = client.post(PATHS[dialect], body)
    assert got.status in (200, 400)
    assert got.status == 400 or "x-gelert-decision" in got.headers


@pytest.mark.parametrize("dialect", PATHS)
@SLOW
@given(
    chunks=st.lists(st.binary(max_size=30) | OBJECTS.map(lambda x: b"data: " + json.dumps(x).encode() + b"\n\n")),
    stream=st.booleans(),
)
def test_a_hostile_answer_is_decided(
    client: Client, upstream: Scripted, dialect: str, chunks: list[bytes], *, stream: bool
) -> None:
    upstream.chunks, upstream.kind = chunks, SSE if stream else "application/json"
    got = client.post(PATHS[dialect], asks(dialect, stream=stream))
    assert got.status == 200
    assert got.headers["x-gelert-decision"] in ("allow", "block")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}], "stream": true, "model": "\\udfff"}',
        b'{"messages": NaN}',
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_a_crafted_request_is_answered(client: Client, upstream: Scripted, body: bytes) -> None:
    upstream.chunks, upstream.kind = [recorded("chat_calls").replace(b"tidy-notes", MARK.encode())], SSE
    got = client.post(PATHS["chat"], body)
    assert got.status in (200, 400)
    assert MARK.encode() not in got.raw


def test_a_request_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with proxied(tmp_path, Scripted(), ScriptedGuard(), limits=replace(QUICK, max_bytes=500)) as small:
        got = small.post(PATHS["chat"], asks("chat", said="x" * 600))
    assert got.status == 413
    assert "at most 500 bytes" in json.loads(got.body)["error"]["message"]


def smuggled(dialect: str) -> list[bytes]:
    """Streams that some client would take the mark from."""
    found = recorded(f"{dialect}_reply").replace(b"tidy", b"UNSAFE").replace(b"-notes", b"-MARK")
    return [
        found.replace(b"\n", b"\r"),
        found.replace(b"\n", b"\r\n"),
        found.replace(b"data: ", b"data:"),
        b"\xef\xbb\xbf" + found,
        found.replace(b"\n\n", b"\nid: 1\nretry: 9\n\n"),
        found.replace(b'{"', b'{\ndata: "', 1),
        b"data: [DONE]\n\n" + found,
        found.rstrip(b"\n"),
    ]


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("which", range(8))
def test_a_streams_form_hides_nothing(client: Client, upstream: Scripted, dialect: str, which: int) -> None:
    upstream.chunks, upstream.kind = [smuggled(dialect)[which]], SSE
    got = client.post(PATHS[dialect], asks(dialect))
    assert got.headers["x-gelert-decision"] == "block"
    assert b"UNSAFE" not in got.raw


def held(*events: object) -> Held:
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return Held(200, [("content-type", SSE)], raw)


def delta(**more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": more}]}


UNUSUAL: dict[str, list[list[object]]] = {
    "chat": [
        [delta(tool_calls=[{"id": "a", "function": {"name": "x", "arguments": f'{{"c": "{MARK}"}}'}}])],
        [delta(function_call={"name": "x", "arguments": "UNSAFE"}), delta(function_call={"arguments": "-MARK"})],
        [delta(refusal="UNSAFE-"), delta(refusal="MARK")],
        [delta(content=[{"type": "text", "text": MARK}])],
        [delta(content="ok"), {"choices": [{"index": 1, "delta": {"content": MARK}}]}],
        [{"choices": [{"index": 0, "message": {"content": MARK}}]}],
        [{"choices": [{"index": 0, "text": MARK}]}],
        [delta(role="user", content=MARK)],
    ],
    "responses": [
        [{"type": "response.output_text.delta", "output_index": 0, "delta": MARK}],
        [{"type": "response.output_item.done", "item": {"type": "custom_tool_call", "name": "x", "input": MARK}}],
        [{"type": "response.output_item.added", "item": {"type": "function_call", "name": "x", "arguments": MARK}}],
        [
            {
                "type": "response.completed",
                "response": {"output": [{"type": "mcp_call", "name": "x", "arguments": MARK}]},
            }
        ],
        [{"type": "response.function_call_arguments.delta", "output_index": 3, "delta": MARK}],
        [{"type": "response.output_item.done", "item": {"type": "message", "role": "user", "content": MARK}}],
        [{"type": "response.output_item.done", "item": {"type": "local_shell_call", "action": {"command": [MARK]}}}],
        [
            {"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "content": "fine"}},
            {"type": "response.output_text.delta", "output_index": 0, "delta": MARK},
        ],
    ],
    "messages": [
        [{"type": "message_start", "message": {"content": [{"type": "text", "text": MARK}]}}],
        [{"type": "content_block_delta", "index": 4, "delta": {"type": "text_delta", "text": MARK}}],
        [{"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {"c": MARK}}}],
        [{"type": "content_block_start", "index": 0, "content_block": {"type": "new_use", "input": {"c": MARK}}}],
        [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "UNSAFE"}},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "b"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "-MARK"}},
        ],
    ],
}


@pytest.mark.parametrize(("dialect", "events"), [(name, found) for name, all_ in UNUSUAL.items() for found in all_])
def test_a_mark_in_an_unusual_place_is_judged(dialect: str, events: list[object]) -> None:
    found = candidate(MODULES[dialect], asks(dialect), held(*events), LogLimits())
    assert any(isinstance(ScriptedGuard().judge(run), Unsafe) for run in found.runs)


@pytest.mark.parametrize("raw", [b"data: {", b"data: 1\n\n", b"data: \xff\n\n", b'data: {"a":\n\n', b"data: NaN\n\n"])
def test_a_stream_that_is_not_json_is_not_read(raw: bytes) -> None:
    with pytest.raises(Malformed):
        candidate(MODULES["chat"], asks("chat"), Held(200, [("content-type", SSE)], raw), LogLimits())


def test_many_deltas_are_read_in_linear_time() -> None:
    """To copy the text so far at each of them would move 10 GB."""
    events = [delta(content="x" * 200)] * 10_000
    found = candidate(MODULES["chat"], asks("chat"), held(*events), LogLimits())
    assert len(found.runs[0].steps[-1].text) == 200 * 10_000
