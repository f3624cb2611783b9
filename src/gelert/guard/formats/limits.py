"""How much of a stranger's log is read before it is refused."""

from dataclasses import dataclass

from gelert.core.trajectory import Trajectory
from gelert.guard.formats.untrusted import as_list, as_object, has_text_keys

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one read; a record or file that exceeds one is refused by that name."""

    max_bytes: int = 256 * _MIB
    """Of a file, after decompression."""
    max_record_bytes: int = 64 * _MIB
    """Of one record: the length of its texts and one for every value."""
    max_depth: int = 100
    """Lists and objects inside each other."""
    max_steps: int = 20_000
    """Of one trajectory."""
    max_records: int = 1_000_000
    """Of one file."""
    max_files: int = 100_000
    """Of one folder."""


_MAX_INT_BITS = 14_000
"""Python refuses to print integers of more than 4,300 digits, which is about this many bits."""


def excess(value: object, limits: Limits) -> str:
    """Why ``value`` may not be read, or an empty text; walks without recursion and stops at the first bound."""
    size = 0
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        size += 1
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, (dict, list)):
            if depth >= limits.max_depth:
                return f"expected at most max_depth={limits.max_depth} levels, got more; raise the limit if it is a log"
            if isinstance(item, dict) and not has_text_keys(item):
                return "expected JSON, got an object whose keys are not all texts"
            size += sum(map(len, as_object(item)))
            members = as_list(item) or list(as_object(item).values())
            stack.extend([(member, depth + 1) for member in members])
        elif isinstance(item, int):
            if item.bit_length() > _MAX_INT_BITS:
                return "expected a number of at most 4,300 digits, got a longer one; write it as a text"
        elif item is not None and not isinstance(item, float):
            return f"expected JSON, got a Python {type(item).__name__}"
        if size > limits.max_record_bytes:
            return f"expected at most max_record_bytes={limits.max_record_bytes}, got more; raise the limit or split it"
    return ""


def too_long(trajectory: Trajectory, limits: Limits) -> str:
    """Why a trajectory may not be kept, or an empty text."""
    if len(trajectory.steps) > limits.max_steps:
        return (
            f"expected at most max_steps={limits.max_steps}, got {len(trajectory.steps)}; raise the limit or split it"
        )
    return ""
