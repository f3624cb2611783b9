"""Deltas into the whole: the pieces of an object that came one after the other, as one object."""

from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text

_ONCE = {"id", "name", "role", "type", "object"}
"""Keys whose value some servers repeat with every piece; what differs is a piece all the same."""


def folded(pieces: list[Object]) -> Object:
    """One object with all that the pieces say: texts and lists one after the other, objects folded in turn."""
    grouped: dict[str, list[object]] = {}
    for piece in pieces:
        for key, value in piece.items():
            if value is not None:
                grouped.setdefault(key, []).append(value)
    return {key: _folded(key, values) for key, values in grouped.items()}


def _folded(key: str, values: list[object]) -> object:
    if all(isinstance(value, dict) for value in values):
        return folded([as_object(value) for value in values])
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in as_list(value)]
    if any(isinstance(value, (str, dict, list)) for value in values):
        texts = [as_text(value) for value in values]
        return "".join(dict.fromkeys(texts) if key in _ONCE else texts)
    return values[-1]
