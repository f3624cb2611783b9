"""The golden tokens are what Gelert's own play feeds a model, and what its rollout keeps."""

import pytest

from gelert.backends.local_chat import opening
from gelert.backends.scripted import ScriptedBackend
from gelert.worlds.episode import Episode
from gelert.worlds.model_agent import Ending, play
from gelert.worlds.rollout import Rollout
from gelert.worlds.tasks import begin
from tests.worlds.bridges.tokens import BROKEN, END, FORM, NAMES, byte_letters, generated, golden, own, scripts


def test_the_golden_episodes_are_what_a_rollout_makes_of_them() -> None:
    assert own() == golden()
    assert tuple(golden()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_reads_what_play_asks_its_backend(name: str) -> None:
    task, said = scripts()[name]
    backend = ScriptedBackend(said)
    play(backend, FORM, Episode(begin(task)))
    letters = byte_letters()
    made = Rollout(letters, FORM, begin(task))
    for text, asked in zip(said, backend.requests, strict=True):
        assert made.context == opening(letters, asked.messages)
        made.take(generated(letters, text))
    assert made.over


def test_an_episode_ends_with_a_message_where_there_is_no_room_for_what_it_would_be_told() -> None:
    (task, said), letters = scripts()["good"], byte_letters()
    rollout = Rollout(letters, FORM, begin(task))
    rollout.most = len(rollout.prompt) + len(generated(letters, said[0])) + 20
    assert rollout.take(generated(letters, said[0])) == []
    assert rollout.talk.ending is Ending.FULL
    assert (rollout.completion, set(rollout.mask)) == (generated(letters, said[0]), {1})


def test_only_what_the_model_said_and_could_be_read_is_learnt() -> None:
    for name, one in golden().items():
        learnt = [text for text, mask in one.spans if mask]
        assert learnt == [text + END for text in one.said if text != BROKEN], name
        told = "".join(text for text, mask in one.spans if not mask)
        assert told.count("<tool_response>") == len(learnt) - 1
        assert (BROKEN + END in told) == (name == "malformed")
