"""Reads the answers of the published AgentDoG checkpoints, strictly: what is not plainly an answer is ``Unreadable``.

Nothing raises, everything is linear in the text's length, and three rules lean the same way: an answer that was cut has
no verdict; what an analysis quotes has no say; and an answer that says both is never read as safe.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from gelert.core.taxonomy import Axis, Diagnosis, Taxonomy, fold
from gelert.core.verdict import Unreadable
from gelert.guard.contracts import Contract


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a checkpoint said."""

    unsafe: bool | None
    """None if the contract gives no verdict (the fine-grained ones presume that the run is unsafe)."""
    diagnosis: Diagnosis = Diagnosis()
    rationale: str = ""
    """The model's analysis or reason, in its own words: it may quote the trajectory."""
    notes: tuple[str, ...] = ()
    """What was there but could not be used, such as a category that the taxonomy does not have."""


def parse(contract: Contract, text: str, taxonomy: Taxonomy, *, finish_reason: str = "stop") -> Parsed | Unreadable:
    """The answer of a checkpoint of this contract, or why it cannot be read."""
    if finish_reason == "length":
        return Unreadable("expected a whole answer, got one that was cut at the token limit")
    answer = without_thoughts(text)
    if isinstance(answer, Unreadable):
        return answer
    if not answer.strip():
        return Unreadable("expected an answer, got an empty text")
    match contract:
        case Contract.COARSE_1_0:
            return _bare_label(answer)
        case Contract.COARSE_1_5:
            return _judgment(answer)
        case Contract.FINE_1_0 | Contract.FINE_1_5:
            return _fine(answer, taxonomy)
        case Contract.UNIFIED_1_5:
            return _unified(answer, taxonomy)
        case Contract.GUARDRAIL_JSON:
            return _json(answer)
        case _:
            assert_never(contract)


_THINK = re.compile(r"<(/?)think>", re.IGNORECASE)
_ANALYSIS_END = re.compile(r"</analysis>", re.IGNORECASE)
_ANALYSIS_TAG = re.compile(r"</?analysis>", re.IGNORECASE)
_JUDGMENT = re.compile(r"<(/?)judge?ment>", re.IGNORECASE)
_AXES = {
    "failure mode": Axis.FAILURE_MODE,
    "risk source": Axis.RISK_SOURCE,
    "risk consequence": Axis.HARM,
    "real world harm": Axis.HARM,
}


def without_thoughts(text: str) -> str | Unreadable:
    """What follows the last ``</think>``; unreadable if a ``<think>`` after it was never closed.

    A chat template may open the block in the prompt, so a closing tag without an opening one is a whole block too.
    """
    start, opened = 0, False
    for tag in _THINK.finditer(text):
        if tag[1]:
            start, opened = tag.end(), False
        else:
            opened = True
    if opened:
        return Unreadable("expected the think block to be closed, but it was not")
    return text[start:]


def _after_analysis(answer: str) -> tuple[str, str]:
    """The analysis without its tags, and what follows its last closing tag (all, if there is no such tag)."""
    ends = [tag.end() for tag in _ANALYSIS_END.finditer(answer)]
    split = ends[-1] if ends else 0
    return _ANALYSIS_TAG.sub("", answer[:split]).strip(), answer[split:]


def _label(text: str) -> bool | None:
    """True for ``unsafe``, False for ``safe``, None for anything else, quotes and markup around the word aside."""
    return {"safe": False, "unsafe": True}.get(text.strip(" \t\r\n*_`\"'.").lower())


def _bare_label(answer: str) -> Parsed | Unreadable:
    unsafe = _label(answer)
    if unsafe is None:
        return Unreadable("expected the one word 'safe' or 'unsafe', got another text")
    return Parsed(unsafe)


def _judgment(answer: str) -> Parsed | Unreadable:
    """The last judgment after the analysis, with nothing behind it; safe only if no earlier one says otherwise."""
    analysis, rest = _after_analysis(answer)
    tags = list(_JUDGMENT.finditer(rest))
    if not tags:
        # A checkpoint of the first release prints the word alone under any prompt.
        return _bare_label(rest) if not analysis else Unreadable("expected a <Judgment> tag, got none")
    if len(tags) % 2 or any(bool(tag[1]) != bool(number % 2) for number, tag in enumerate(tags)):
        return Unreadable("expected every <Judgment> tag to be closed, got one that is not")
    if rest[tags[-1].end() :].strip():
        return Unreadable("expected nothing after </Judgment>, got more text")
    pairs = zip(tags[::2], tags[1::2], strict=True)
    labels = [_label(rest[opening.end() : closing.start()]) for opening, closing in pairs]
    last = labels[-1]
    if last is None:
        return Unreadable("expected exactly 'safe' or 'unsafe' in the <Judgment> tag, got another text")
    if not last and labels.count(False) < len(labels):
        return Unreadable("expected one judgment, got several that differ")
    return Parsed(last, rationale=analysis)


def _fine(answer: str, taxonomy: Taxonomy) -> Parsed | Unreadable:
    analysis, rest = _after_analysis(answer)
    named = _categories(rest.splitlines())
    if isinstance(named, Unreadable):
        return named
    if len(named) < 3:
        return Unreadable(f"expected a category on each of the three axes, got {len(named)}")
    diagnosis, notes = _diagnosis(named, taxonomy)
    return Parsed(None, diagnosis, analysis, notes)


def _unified(answer: str, taxonomy: Taxonomy) -> Parsed | Unreadable:
    lines = [line for line in answer.splitlines() if line.strip()]
    said = [_label(value) for key, value in map(_key_value, lines) if key == "safety"]
    if not said or None in said:
        return Unreadable("expected the line 'Safety: safe' or 'Safety: unsafe', got none")
    if len(set(said)) > 1:
        return Unreadable("expected one 'Safety:' line, got several that differ")
    if said[0] is False:
        if len(lines) > 1:
            return Unreadable("expected 'Safety: safe' to stand alone, got more lines")
        return Parsed(unsafe=False)
    named = _categories(lines)
    if isinstance(named, Unreadable):
        return Parsed(unsafe=True, notes=(named.reason,))
    diagnosis, notes = _diagnosis(named, taxonomy)
    return Parsed(unsafe=True, diagnosis=diagnosis, notes=notes)


def _key_value(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return fold(key).lstrip("0123456789 "), value


def _categories(lines: Iterable[str]) -> dict[Axis, str] | Unreadable:
    """The category named on each axis; unreadable if an axis is given two different ones."""
    named: dict[Axis, str] = {}
    for key, value in map(_key_value, lines):
        axis = _AXES.get(key)
        if axis is None:
            continue
        if fold(named.setdefault(axis, value)) != fold(value):
            return Unreadable(f"expected one category on axis {axis.value!r}, got several")
    return named


def _diagnosis(named: dict[Axis, str], taxonomy: Taxonomy) -> tuple[Diagnosis, tuple[str, ...]]:
    leaves = {axis: taxonomy.resolve(axis, text) for axis, text in named.items()}
    notes = tuple(
        f"axis {axis.value!r}: {'a category that is not in the taxonomy' if axis in named else 'no category'}"
        for axis in Axis
        if leaves.get(axis) is None
    )
    slugs = {axis: leaf.slug for axis, leaf in leaves.items() if leaf}
    found = Diagnosis(slugs.get(Axis.RISK_SOURCE), slugs.get(Axis.FAILURE_MODE), slugs.get(Axis.HARM))
    return found, notes


def _json(answer: str) -> Parsed | Unreadable:
    try:
        body: object = json.loads(_unfenced(answer), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return Unreadable("expected one JSON object with each key once, got another text")
    pred = body.get("pred") if isinstance(body, dict) else None
    if not isinstance(pred, int) or isinstance(pred, bool) or pred not in (0, 1):
        return Unreadable("expected 'pred' to be 0 or 1, got another value")
    reason = body.get("reason") if isinstance(body, dict) else None
    return Parsed(pred == 1, rationale=reason if isinstance(reason, str) else "")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _unfenced(answer: str) -> str:
    """The answer without the code fence around the whole of it, if there is one."""
    text = answer.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        return text[3:-3].removeprefix("json").strip()
    return text
