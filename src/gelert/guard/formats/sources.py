"""Bytes out of files, folders, gzip and standard input, bounded; JSON out of bytes, or the reason why there is none."""

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import IO

from gelert.core.errors import InputError
from gelert.guard.formats.limits import Limits
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.untrusted import Object

SUFFIXES = (".json", ".jsonl", ".ndjson", ".traj", ".eval")
_GZIP = b"\x1f\x8b"
_ENCODINGS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x28\xb5\x2f\xfd", "zstandard"), (b"BZh", "bzip2"))


def files_of(path: Path) -> list[Path]:
    """The file itself, or every log under a folder, sorted; links are not followed out of it.

    Raises:
        InputError: there is no such file, or it is no plain file.
    """
    if path.is_dir():
        found = [item for item in path.rglob("*") if _is_log(item) and item.is_file() and not item.is_symlink()]
        return sorted(found)
    if not path.exists():
        raise InputError(
            f"expected a file or a folder of logs, got {str(path)!r}, which does not exist; check the path"
        )
    return [path]


def _is_log(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(SUFFIXES) and not path.name.startswith(".")


def content(stream: IO[bytes], limits: Limits) -> bytes:
    """All bytes of a stream, unzipped if it is gzip.

    Raises:
        Malformed: there are more than ``max_bytes``, or the gzip is damaged.
    """
    raw = _bounded(stream, limits)
    if not raw.startswith(_GZIP):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unzipped:
            return _bounded(unzipped, limits)
    except (EOFError, OSError, zlib.error) as fault:
        raise Malformed(f"expected whole gzip data, got damaged ones ({fault}); fetch the file again") from None


def _bounded(stream: IO[bytes] | gzip.GzipFile, limits: Limits) -> bytes:
    raw = stream.read(limits.max_bytes + 1)
    if len(raw) > limits.max_bytes:
        raise Malformed(f"expected at most max_bytes={limits.max_bytes}, got more; raise the limit or split the file")
    return raw


def decoded(raw: bytes) -> str:
    """UTF-8 text without its byte order mark.

    Raises:
        Malformed: the bytes are not UTF-8.
    """
    for mark, name in _ENCODINGS:
        if raw.startswith(mark):
            raise Malformed(f"expected UTF-8 text, got {name}; convert the file first")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise Malformed(f"expected UTF-8 text, got byte {raw[fault.start]:#04x} at {fault.start}; convert it") from None


def parsed(text: str) -> object:
    """The JSON value that ``text`` is.

    Raises:
        Malformed: it is no JSON, is nested too deeply, repeats a key, or has a number too long to print.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise Malformed("expected JSON within max_depth, got one nested too deeply to parse; it is no log") from None
    except json.JSONDecodeError as fault:
        at = f"line {fault.lineno} column {fault.colno}"
        raise Malformed(f"expected JSON, got {fault.msg} at {at}; mend or remove the record") from None
    except Malformed:
        raise
    except ValueError as fault:
        raise Malformed(f"expected JSON, got {fault}; mend or remove the record") from None


def _unique(pairs: list[tuple[str, object]]) -> Object:
    """The object, unless a key stands twice: what one parser shows an agent, another would hide from its judge."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise Malformed(f"expected each key once in an object, got {twice[:80]!r} twice; write it once")
    return found
