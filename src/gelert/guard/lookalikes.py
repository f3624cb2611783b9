"""Text as it looks to a reader: letters of other alphabets that look Latin, letters that cannot be seen, escapes.

A model or a person reads a disguised word as the plain one; a guard that counts words would not. What nobody writes but
to disguise is undone, and nothing else is touched: ordinary text, also in other alphabets, stays as it is to the byte.
"""

import re
import unicodedata
from dataclasses import replace

from gelert.core.trajectory import Step, ToolCall

CYRILLIC = dict(zip("асеорхуіјѕһԁԛԝАВСЕНІЈКМОРЅТХҮ", "aceopxyijshdqwABCEHIJKMOPSTXY", strict=True))  # noqa: RUF001 - they are the point
OTHERS = dict(zip("οΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսıɡɑ", "oABEZHIKMNOPTYXouiga", strict=True))  # noqa: RUF001 - they are the point
LATIN = CYRILLIC | OTHERS
"""Letters that look Latin, and which letter each looks like. Greek ones that stand for quantities are left out."""

HIDDEN = (
    "\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f"
)
"""Characters that cannot be seen, as a class of a regular expression has them."""

_SHAPES = {
    code: letter
    for code in (*range(0xFF10, 0xFF5B), *range(0x1D400, 0x1D800))
    if (letter := unicodedata.normalize("NFKC", chr(code))).isascii() and letter.isalnum()
}
"""Wide and mathematical letters and digits."""

_TABLE = str.maketrans(LATIN)
_SEEN = "\t\n\r -~" + "".join(LATIN)
_UNSEEN = re.compile(f"(?<=[{_SEEN}])[{HIDDEN}]+(?=[{_SEEN}])")
"""Between ASCII characters and those that look Latin, where no script has use for them."""

_WORD = re.compile(r"\w+")
_NATIVE = re.compile("[\u0400-\u04ff]")
_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u00([2-7][0-9a-fA-F])")
_NEEDLESS = re.compile(r"(?<!\\)(?:\\\\)*\\u00(?:3\d|[46][1-9a-fA-F]|[57][0-9aA])")


def plain(text: str) -> str:
    r"""``text`` as it looks.

    >>> plain("\u0440\u0430ss\u200bword \uff52\uff4d")
    'password rm'
    """
    if text.isascii():
        return text
    shown = _UNSEEN.sub("", text.translate(_SHAPES))
    native = any(letter not in LATIN for letter in _NATIVE.findall(shown))
    return _WORD.sub(lambda word: _latin(word[0], native), shown)


def plain_step(step: Step) -> Step:
    """The step with all its words as they look; the step itself where nothing is disguised."""
    calls = tuple(ToolCall(plain(call.name), _unescaped(plain(call.arguments)), call.call_id) for call in step.calls)
    text, thought = plain(step.text), plain(step.thought)
    same = text == step.text and thought == step.thought and calls == step.calls
    return step if same else replace(step, text=text, thought=thought, calls=calls)


def _latin(word: str, native: bool) -> str:  # noqa: FBT001 - private, and one flag says it all
    """The Latin word that ``word`` looks like; in a text of a script's own letters, only if some are Latin indeed."""
    shown = word.translate(_TABLE)
    return shown if shown.isascii() and (not native or any(letter.isascii() for letter in word)) else word


def _unescaped(arguments: str) -> str:
    """JSON text without escapes of visible ASCII, if letters or digits are escaped, which no encoder does."""
    if not _NEEDLESS.search(arguments):
        return arguments
    return _ESCAPE.sub(_character, arguments)


def _character(found: re.Match[str]) -> str:
    letter = chr(int(found[2], 16))
    return found[0] if letter in '"\\' or not letter.isprintable() else found[1] + letter
