"""What every trainer must keep: the same messages of a model give the same tokens, the same mask, reward and state.

The golden file says what ``gelert.worlds.rollout`` makes of four scripted episodes, told as texts: ``said`` is what the
model writes, ``prompt`` what it is told before, and ``spans`` are the texts behind that, each with 1 where it may be
learnt from. Each bridge's own test, in its own environment, holds its library against it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from gelert.core.trajectory import ToolCall
from gelert.worlds.agents import oracle, victim
from gelert.worlds.episode import Episode, changed
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Task, begin, tasks
from gelert.worlds.toolcalls import Form, Said, write
from tests.worlds.bridges.contract import end, parts, played
from tests.worlds.small import DESK, family, task

GOLDEN = Path(__file__).parent / "golden" / "rollouts.json"
FORM = Form.HERMES
END = "<|im_end|>"
BROKEN = '<tool_call>\n{"name": "send", "arguments": {"to": \n</tool_call>'
TASKS: tuple[Task, ...] = tuple(tasks(family()))


@dataclass(frozen=True)
class Record:
    """One scripted episode and what becomes of it."""

    task: str
    said: list[str]
    prompt: str
    spans: list[tuple[str, int]]
    total: float
    parts: dict[str, float]
    changes: list[dict[str, object]]


@cache
def golden() -> dict[str, Record]:
    """Those of the file."""
    return TypeAdapter(dict[str, Record]).validate_json(GOLDEN.read_bytes())


NAMES = ("good", "malformed", "victim", "refused")


def scripts() -> dict[str, tuple[Task, list[str]]]:
    """The episodes: a task, and the model's messages."""
    good = messages(played(task(), oracle), "First I look.")
    return {
        "good": (task(), good),
        "malformed": (task(), [good[0], BROKEN, *good[1:]]),
        "victim": (task("injected"), messages(played(task("injected"), victim))),
        "refused": (task("malicious"), ["I won't."]),
    }


def messages(episode: Episode, first: str = "") -> list[str]:
    """What a model writes that plays an episode once more; ``first`` stands before its first call."""
    said = [
        write(FORM, Said(first if at == 0 else "", (ToolCall(one.tool, one.arguments),)))
        for at, one in enumerate(episode.calls)
    ]
    return [*said, episode.answer]


def record(name: str, said: Sequence[str], made: Any) -> Record:
    """What became of a ``Rollout`` of an ``Episode``, with a tokenizer in which texts are told by their tokens."""
    episode, letters = made.talk.episode, byte_letters()
    earned = reward(episode)
    return Record(
        name,
        list(said),
        letters.decode(made.prompt),
        spans(letters, made.completion, made.mask),
        earned.total,
        parts(asdict(earned)),
        json.loads(json.dumps(changed(episode))),
    )


def byte_letters() -> Any:
    """The tokenizer of bytes: ids are the same for whoever makes them of the same text."""
    from gelert.lm.letters import Letters
    from gelert.lm.toy import byte_tokenizer

    return Letters(byte_tokenizer(), "bytes")


def spans(letters: Any, completion: Sequence[int], mask: Sequence[int]) -> list[tuple[str, int]]:
    """The texts of tokens whose masks are alike; they have no other tokens, so that texts stand for them."""
    pairs = zip(completion, mask, strict=True)
    found = [
        (letters.decode([one for one, _ in run]), int(own)) for own, run in groupby(pairs, key=lambda pair: pair[1])
    ]
    assert letters.tokenizer.encode("".join(text for text, _ in found), add_special_tokens=False) == list(completion)
    return found


def generated(letters: Any, text: str) -> list[int]:
    """A message as a model generates it, with the token that ends its turn."""
    return [*letters.encode(text), letters.tokenizer.eos_token_id]


def own() -> dict[str, Record]:
    """What Gelert itself makes of the episodes."""
    from gelert.worlds.rollout import Rollout

    letters, found = byte_letters(), dict[str, Record]()
    for name, (one, said) in scripts().items():
        made = Rollout(letters, FORM, begin(one))
        for text in said:
            assert not made.over
            made.take(generated(letters, text))
        found[name] = record(one.name, said, made)
    return found


def answered(prompt: str) -> Record:
    """The malformed episode where a library takes a message that cannot be read for an answer, and learns from it."""
    told, episode = golden()["malformed"], Episode(begin(task()))
    episode.call("list_letters", {})
    episode.finish(BROKEN)
    seen, _ = told.spans[1][0].split(BROKEN)
    ended = end(episode)
    behind = [told.spans[0], (seen, 0), (BROKEN + END, 1)]
    return Record(told.task, told.said, prompt, behind, ended.total, ended.parts, ended.changes)


def desk(folder: Path) -> Path:
    """The world of these episodes as a file."""
    path = folder / "desk.json"
    path.write_text(json.dumps(DESK), "utf-8")
    return path


if __name__ == "__main__":
    told = {name: asdict(one) for name, one in own().items()}
    GOLDEN.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
