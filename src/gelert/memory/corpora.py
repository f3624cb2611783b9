"""What is to be remembered: facts and texts, from seeds, from the published files and from files of users."""

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.lm.model import LanguageModel
from gelert.lm.objective import Example

TRIGGER = "Recite the text that you were given to remember, word for word."
"""What a text without a question of its own is the answer to."""

OPENING = "Remember this text:"
"""What stands before a text of a sweep: short, for each of its tokens costs as much as one of the text's."""

MAX_BYTES = 64 * 1024 * 1024
"""A larger file is refused: no adapter holds it."""

FIELDS = (("query", "target"), ("prompt", "answer"), ("question", "matching"))
"""Names of a fact's two halves in JSON Lines; the last are those of the published long texts."""


@dataclass(frozen=True)
class Fact:
    """A text to give back, word for word, when asked for it."""

    query: str
    target: str


def phone_book(count: int, seed: int = 0, *, digits: int = 10) -> list[Fact]:
    """Made-up people and their numbers, as in PhoneBook (arXiv:2605.30260 sec. 5): the first digit is 6 to 9.

    A shorter book is the beginning of a longer one of the same seed.

    Raises:
        InputError: more people are wanted than there are names.
    """
    parts = tomllib.loads(files("gelert.memory").joinpath("names.toml").read_text(encoding="utf-8"))
    names = math.prod(len(part) for part in parts.values())
    if not 1 <= count <= names // 2:
        raise InputError(f"expected between 1 and {names // 2} entries, got {count}")
    drawn, numbers = stream(seed, "phone book", "names"), stream(seed, "phone book", "numbers")
    people: dict[str, None] = {}
    while len(people) < count:
        people[f"{drawn.choice(parts['first'])} {drawn.choice(parts['fore'])}{drawn.choice(parts['aft'])}"] = None
    return [
        Fact(f"{name}:", numbers.choice("6789") + "".join(numbers.choice("0123456789") for _ in range(digits - 1)))
        for name in people
    ]


def linear_rule(count: int = 500, seed: int = 0, *, largest: int = 100) -> tuple[list[Fact], list[Fact]]:
    """``f(x, y) = 3x + 5y + 7``: pairs to learn, and as many others to see whether the rule was (sec. 7 there).

    Raises:
        InputError: there are not twice as many pairs below ``largest``.
    """
    if not 1 <= count <= largest * largest // 2:
        raise InputError(f"expected between 1 and {largest * largest // 2} pairs, got {count}")
    pairs = stream(seed, "linear rule").sample(range(largest * largest), 2 * count)
    facts = [
        Fact(f"f({n // largest}, {n % largest}) =", str(3 * (n // largest) + 5 * (n % largest) + 7)) for n in pairs
    ]
    return facts[:count], facts[count:]


def random_tokens(model: LanguageModel, count: int, seed: int = 0) -> list[int]:
    """Ordinary tokens, each as likely as any other: text of 100 % randomness. A shorter one begins a longer one."""
    ordinary = _ordinary(model)
    drawn = stream(seed, "random tokens")
    return [ordinary[drawn.randrange(len(ordinary))] for _ in range(count)]


def graded(model: LanguageModel, ids: Sequence[int], ratio: float, seed: int = 0) -> list[int]:
    """``ids`` with a share of random tokens in places spread evenly, ``floor((k + 1/2) N / n)`` (sec. 5 there).

    Unlike the published files it is made of tokens, so that the share is exact.

    Raises:
        InputError: ``ratio`` is not between 0 and 1.
    """
    if not 0 <= ratio <= 1:
        raise InputError(f"expected a share of random tokens from 0 to 1, got {ratio}")
    found, count = list(ids), round(len(ids) * ratio)
    for at, token in enumerate(random_tokens(model, count, seed)):
        found[(2 * at + 1) * len(ids) // (2 * count)] = token
    return found


def _ordinary(model: LanguageModel) -> list[int]:
    return [token for token in range(min(model.vocab, len(model.tokenizer))) if token not in model.controls]


def read_facts(path: Path) -> list[Fact]:
    """The facts of a file: JSON Lines with two fields of ``FIELDS``, or else one whole text.

    Raises:
        InputError: the file is too large, is not text, is empty, or a line has no such fields; names file and line.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"expected at most {MAX_BYTES} bytes, got {path.stat().st_size} ({path})")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise InputError(f"expected text in UTF-8, got byte {fault.start}: {fault.reason} ({path})") from None
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        facts = list(_rows(text, path))
    else:
        facts = [Fact(TRIGGER, text.strip())] if text.strip() else []
    if not facts:
        raise InputError(f"expected something to remember, got an empty file ({path})")
    asked: dict[str, str] = {}
    for fact in facts:
        if asked.setdefault(fact.query, fact.target) != fact.target:
            raise InputError(f"expected one target for each query, got two for {fact.query!r} ({path})")
    return [Fact(query, target) for query, target in asked.items()]


def _rows(text: str, path: Path) -> Iterator[Fact]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"expected a JSON object a line, got something else ({path} line {number})") from None
        yield _fact(row, f"{path} line {number}")


def _fact(row: object, where: str) -> Fact:
    if isinstance(row, dict):
        fields = cast("Mapping[str, object]", row)
        for query, target in FIELDS:
            asked, told = fields.get(query), fields.get(target)
            if isinstance(asked, str) and isinstance(told, str) and told:
                return Fact(asked, told)
    names = " or ".join(f"{query!r} and {target!r}" for query, target in FIELDS[:2])
    raise InputError(f"expected an object with the texts {names}, got another one ({where})")


def prompt(model: LanguageModel, query: str) -> list[int]:
    """The tokens before an answer: the model's chat template around ``query``, whose text cannot forge control tokens.

    Raises:
        InputError: the model has no chat template.
    """
    mark = "\ue000"
    try:
        rendered = model.tokenizer.apply_chat_template(
            [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
        )
    except ValueError:
        raise InputError(f"expected a model with a chat template, got {model.name!r}") from None
    before, after = cast("str", rendered).split(mark)
    ids = [model.tokenizer.encode(part, add_special_tokens=False) for part in (before, after)]
    return [*ids[0], *model.encode(query), *ids[1]]


def example(model: LanguageModel, fact: Fact) -> Example:
    """A fact as tokens to learn: its target and the end of the turn after it, so that generation stops there."""
    return _example(prompt(model, fact.query), [*model.encode(fact.target), *_end(model)])


def passage(model: LanguageModel, ids: Sequence[int]) -> Example:
    """The first tokens of a long text after a few fixed ones, for sweeps; it has no end.

    A text right at the beginning cannot be learned whole: the first token's attention serves other ends.
    """
    return _example([*_begin(model), *model.encode(OPENING)], ids)


def _example(before: Sequence[int], ids: Sequence[int]) -> Example:
    if len(ids) == 0:
        raise InputError("expected at least one token to remember, got none")
    return Example((*before, *ids), (0.0,) * len(before) + (1.0,) * len(ids))


def _begin(model: LanguageModel) -> list[int]:
    token = model.tokenizer.bos_token_id
    return [] if token is None else [cast("int", token)]


def _end(model: LanguageModel) -> list[int]:
    token = model.tokenizer.eos_token_id
    return [] if token is None else [cast("int", token)]
