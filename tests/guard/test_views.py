"""Views of a run: bounded, marked where they are cut, and together they show every token of every step."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.backends.local import LocalModel
from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Step, ToolSpec, Trajectory
from gelert.guard.prompts.render import render
from gelert.guard.views import EARLIER, LATER, View, views
from gelert.guard.windows import CONTINUED
from gelert.lm.model import tiny
from tests.guard.tiny import run

MODEL = LocalModel(tiny())
MOST = 600
WORDS = st.lists(st.text(max_size=300), min_size=2, max_size=9)


def text(view: View) -> str:
    return MODEL.model.decode(view.ids)


def shown(found: tuple[View, ...], step: int) -> bytes:
    """What the views show of a step, each token once: views overlap by whole parts."""
    parts: list[tuple[int, ...]] = []
    for view in found:
        own = [part.ids for part in view.parts if part.step == step]
        overlap = next(n for n in range(len(own), -1, -1) if parts[len(parts) - n :] == own[:n])
        parts += own[overlap:]
    mark = CONTINUED.encode()
    return b"".join(
        spelled.removeprefix(mark) if number else spelled
        for number, spelled in enumerate(MODEL.model.decode(ids).encode() for ids in parts)
    )


@settings(max_examples=40)
@given(st.lists(st.text(alphabet="abc \n", max_size=300), min_size=2, max_size=9))
def test_every_character_of_every_step_is_shown(words: list[str]) -> None:
    whole = run(*words)
    found = views(MODEL, whole, MOST).views
    for number, piece in enumerate(render(whole).pieces):
        assert shown(found, number) == piece.encode()


@settings(max_examples=40)
@given(WORDS)
def test_no_view_is_longer_than_asked_and_each_goes_on(words: list[str]) -> None:
    found = views(MODEL, run(*words), MOST).views
    assert all(len(view.ids) <= MOST for view in found)
    firsts = [view.parts[0].step for view in found]
    assert firsts == sorted(firsts)
    assert not found[-1].rest


def test_a_run_that_fits_is_the_rendered_text() -> None:
    whole = run("hi", "ls", "done")
    found = views(MODEL, whole, MOST)
    assert len(found.views) == 1
    assert text(found.views[0]).endswith(render(whole).text)
    assert found.elided_characters == 0


def test_what_is_left_out_is_marked_on_its_side() -> None:
    found = views(MODEL, run("task", *("x" * 150 for _ in range(8))), MOST).views
    assert len(found) > 2
    assert [LATER in text(view) for view in found] == [True] * (len(found) - 1) + [False]
    assert [EARLIER in text(view) for view in found] == [False] + [True] * (len(found) - 1)


def test_the_task_and_the_rules_stand_in_every_view() -> None:
    whole = run("TASK", *("x" * 150 for _ in range(8)))
    ruled = replace(whole, steps=(Step(Role.SYSTEM, "RULES"), *whole.steps))
    for view in views(MODEL, ruled, MOST).views:
        assert "TASK" in text(view)
        assert "RULES" in text(view)


def test_a_step_is_shown_where_its_end_is() -> None:
    found = views(MODEL, run("task", "y" * 1500), MOST).views
    assert [view.shows(1) for view in found] == [False] * (len(found) - 1) + [True]


def test_an_endless_tool_list_leaves_room_and_is_counted() -> None:
    tools = tuple(ToolSpec(f"tool_{i}", "does things") for i in range(300))
    found = views(MODEL, replace(run("task", "ls"), tools=tools), MOST)
    assert found.elided_characters > 1000
    assert all(len(view.ids) <= MOST for view in found.views)


@pytest.mark.parametrize("most", [100, 256, 300])
def test_too_little_room_is_refused_and_does_not_hang(most: int) -> None:
    with pytest.raises(InputError, match="room for at least"):
        views(MODEL, run("task" * 40, "x" * 500), most)


def test_an_empty_run_is_its_header() -> None:
    assert len(views(MODEL, Trajectory(()), MOST).views) == 1
