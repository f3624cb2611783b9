"""Whatever a stranger writes, an Example or a Refusal comes out: nothing crashes, nothing hangs, nothing grows."""

import copy
import gzip
import json
import time
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Role, Trajectory
from gelert.guard.formats import FORMATS, Limits, read_value, read_values, write_atif
from tests.guard.formats.reading import examples, from_text, lines, refusal, refusals, run
from tests.guard.formats.samples import SAMPLES

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

ODD = [
    "",
    "\ud800",
    "\x00",
    "null",
    "{",
    '{"output": 1}',
    "assistant",
    "tool_use",
    "<system-reminder>",
    "Complete{",
    "f(",
]
ROLES = ["user", "agent", "tool", "system"]
KEYS = ["role", "content", "type", "text", "tool_calls", "function", "arguments", "args", "message", "payload", "id"]
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats()
SCALARS = NUMBERS | st.sampled_from([*ODD, *ROLES]) | st.text(max_size=8)
NAMES = st.sampled_from(KEYS) | st.text(max_size=4)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(cast("list[object]", value)):
            yield from places(inner, (*path, number))


def changed(value: object, path: tuple[object, ...], other: object) -> object:
    """A copy of ``value`` with ``other`` at ``path``."""
    if not path:
        return other
    root = copy.deepcopy(value)
    inner = cast("dict[object, object]", root)
    for key in path[:-1]:
        inner = cast("dict[object, object]", inner[key])
    inner[path[-1]] = other
    return root


def judge_could_read(found: list[Example | Refusal]) -> None:
    """Each find is an example whose every text is a text, or a reasoned refusal."""
    assert found
    for item in found:
        if isinstance(item, Refusal):
            assert item.reason
            continue
        all_texts(item.trajectory)
        json.dumps(write_atif(item.trajectory))


def all_texts(trajectory: Trajectory) -> None:
    assert trajectory.steps
    for step in trajectory.steps:
        plain: list[object] = [step.text, step.thought, step.call_id, step.tool_name]
        plain += [x for call in step.calls for x in (call.name, call.arguments, call.call_id)]
        assert all(isinstance(text, str) for text in plain)
        assert isinstance(step.is_error, bool)
        assert step.role == Role.AGENT or not (step.calls or step.thought)


@pytest.mark.parametrize("name", ["auto", *FORMATS])
@QUICK
@given(value=JSON)
def test_arbitrary_json_is_read_or_refused(name: str, value: object) -> None:
    judge_could_read(read_values(value, format=name))


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(data=st.data(), other=JSON)
def test_a_record_changed_anywhere_is_read_or_refused(name: str, data: st.DataObject, other: object) -> None:
    made = SAMPLES[name].make()
    value = changed(made, data.draw(st.sampled_from(list(places(made)))), other)
    judge_could_read(read_values(value))
    judge_could_read(read_values(value, format=name))


@pytest.mark.parametrize("name", FORMATS)
def test_no_reader_crashes_on_another_formats_record(name: str) -> None:
    for sample in SAMPLES.values():
        judge_could_read(read_values(sample.make(), format=name))


@QUICK
@given(raw=st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused(raw: bytes) -> None:
    judge_could_read(from_text(raw))


@QUICK
@given(data=st.data())
def test_a_file_cut_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SAMPLES)))
    made = SAMPLES[name].make()
    text = lines(made) if SAMPLES[name].session else json.dumps(made)
    judge_could_read(from_text(text[: data.draw(st.integers(1, len(text)))]))


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"messages":'])
def test_deep_nesting_is_refused(opening: str) -> None:
    assert "nested too deeply" in refusals(from_text(opening * 200_000))[0].reason


def test_nesting_beyond_the_limit_is_refused_by_its_name() -> None:
    value: object = "x"
    for _ in range(150):
        value = [value]
    assert "max_depth=100" in refusal({"messages": value})


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value += [value, value]
    assert "max_" in refusal(value)


def test_a_gzip_bomb_is_refused_by_the_name_of_the_limit() -> None:
    found = from_text(gzip.compress(b" " * 5_000_000), limits=Limits(max_bytes=1_000_000))
    assert "max_bytes" in refusals(found)[0].reason


def test_damaged_gzip_is_refused() -> None:
    assert "gzip" in refusals(from_text(gzip.compress(b"[]" * 99)[:-9]))[0].reason


def test_a_record_that_is_too_large_is_refused_and_the_rest_go_on() -> None:
    small = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    large = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000}]})
    found = from_text(f"{small}\n{large}\n{small}\n", limits=Limits(max_record_bytes=1_000))
    assert (len(examples(found)), [x.line for x in refusals(found)]) == (2, [2])


def test_too_many_steps_are_refused_by_the_name_of_the_limit() -> None:
    value = {"messages": [{"role": "user", "content": "x"}] * 11}
    assert "max_steps=10" in refusal(value, limits=Limits(max_steps=10))


def test_too_many_records_end_the_file() -> None:
    text = lines([SAMPLES["toolemu"].make()] * 5)
    found = from_text(text, limits=Limits(max_records=3))
    assert (len(examples(found)), "max_records=3" in refusals(found)[0].reason) == (3, True)


def test_a_key_that_stands_twice_is_refused() -> None:
    found = from_text('{"messages": [{"role": "user", "content": "a", "content": "b"}]}')
    assert "'content' twice" in refusals(found)[0].reason


def test_a_number_too_long_to_print_is_refused() -> None:
    assert "digits" in refusals(from_text('{"messages": ' + "1" * 5_000 + "}"))[0].reason


def test_a_python_object_that_is_no_json_is_refused() -> None:
    assert "set" in refusal({"messages": [{"role": "user", "content": {1, 2}}]})


def test_half_a_surrogate_pair_is_kept() -> None:
    found = examples(from_text('[{"role": "user", "content": "a\\ud800b"}]'))
    assert found[0].trajectory.steps[0].text == "a\ud800b"


def test_unicode_line_ends_do_not_part_a_line() -> None:
    line = json.dumps({"messages": [{"role": "user", "content": "a\u2028b\x85c"}]}, ensure_ascii=False)
    assert [x.trajectory.steps[0].text for x in examples(from_text(f"{line}\n{line}\n"))] == ["a\u2028b\x85c"] * 2


@pytest.mark.parametrize("raw", [b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}', b"", b"  \n", b"PK\x03\x04junk"])
def test_bytes_that_are_no_utf8_text_are_refused(raw: bytes) -> None:
    assert len(refusals(from_text(raw))) == 1


def acted(action: str) -> object:
    return {"contents": [[{"role": "agent", "action": action}]]}


def asked(text: str) -> object:
    return {"messages": [{"role": "user", "content": text}]}


PIECE = {"type": "assistant", "sessionId": "s", "message": {"id": "m", "content": [{"type": "text", "text": "x" * 40}]}}
REASONING = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "y" * 40}]}
CALL = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}
FLOODS: dict[str, object] = {
    "fences": asked("<system-reminder>" * 60_000),
    "closed fences": asked("<user_instructions></user_instructions>" * 9_000),
    "one message id": [{**PIECE, "uuid": str(n)} for n in range(15_000)],
    "reasoning": {"input": [REASONING] * 15_000},
    "calls": {"input": [CALL] * 15_000},
    "rollout": {
        "codex_rollout": [{"type": "response_item", "payload": CALL}] * 9_000,
        "conversation": [{"role": "assistant", "action": {"name": "f"}}] * 9_000,
    },
    "braces": acted("f" + "({[" * 60_000),
    "dashes": acted("f" + "-" * 300_000),
    "minus signs": acted("f{" + "-" * 90_000 + "1}"),
    "spaces": acted(" " * 300_000 + "x" + "\n \t" * 90_000),
    "a toolemu log": {"input": "x", "intermediate_steps": [[["f", "zz", "\nAction:" * 60_000], ["o"]]]},
    "toolemu spaces": {"input": "x", "intermediate_steps": [[["f", "zz", " " * 300_000], ["o"]]]},
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_read_in_linear_time(name: str) -> None:
    begun = time.process_time()
    read_value(FLOODS[name])
    assert time.process_time() - begun < 4  # of this process: others may be busy


def test_a_thousand_records_are_read_in_a_moment() -> None:
    text = lines([SAMPLES["agentdog"].make()] * 1_000)
    begun = time.process_time()
    assert len(examples(from_text(text))) == 1_000
    assert time.process_time() - begun < 4  # of this process: others may be busy


def test_an_unknown_content_part_stays_visible() -> None:
    part = {"type": "hologram", "depth": "tok_deep"}
    assert "hologram" in run({"messages": [{"role": "user", "content": [part]}]}).steps[0].text


def test_an_unknown_role_is_nobodys_request() -> None:
    found = run([{"role": "oracle", "content": "tok_oracle"}], "openai")
    assert (found.steps[0].role, found.steps[0].provenance.kind) == (Role.RUNTIME, "oracle")
