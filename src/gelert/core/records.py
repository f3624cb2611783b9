"""The one form on disk: versioned JSON Lines, each line with a content hash; errors name file and line.

A line is ``{"kind": str, "version": int, "sha256": hex, "data": object}`` where the hash covers kind, version and data
in canonical JSON, so that a changed byte is found and two runs' records can be compared.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gelert.core.errors import RecordError

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused: it is not a record of ours."""


def canonical(value: object) -> str:
    """JSON text with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of ``value``, in hex."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def encode(kind: str, version: int, data: Mapping[str, object]) -> str:
    """One line, without the newline."""
    body = {"kind": kind, "version": version, "data": dict(data)}
    return canonical({**body, "sha256": digest(body)})


def write(path: Path, kind: str, version: int, rows: Iterable[Mapping[str, object]]) -> int:
    """Write all rows to ``path``, replacing it only once all are written; gives the number of rows."""
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8", errors="surrogatepass") as stream:
        for row in rows:
            stream.write(encode(kind, version, row) + "\n")
            count += 1
    partial.replace(path)
    return count


def append(path: Path, kind: str, version: int, row: Mapping[str, object]) -> None:
    """Add one row and force it to disk, so that an interrupted run loses at most the row it was working on.

    A last line without its newline (an earlier append that was interrupted) is removed first.
    """
    _trim(path)
    with path.open("a", encoding="utf-8", errors="surrogatepass") as stream:
        stream.write(encode(kind, version, row) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(path: Path, kind: str, version: int) -> Iterator[dict[str, object]]:
    """The rows of ``path``, each checked against its hash.

    A last line without a newline that is not a whole record (an interrupted append) is left out.

    Raises:
        RecordError: a line is not a record of this kind and version, or its hash does not fit.
    """
    with path.open("r", encoding="utf-8", errors="surrogatepass") as stream:
        for number, line in enumerate(stream, start=1):
            where = f"{path} line {number}"
            try:
                if len(line) > MAX_LINE_BYTES:
                    raise RecordError(f"expected a line of at most {MAX_LINE_BYTES} bytes, got a longer one ({where})")
                yield _decode(line, kind, version, where)
            except RecordError:
                if line.endswith("\n"):
                    raise


def _trim(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            start = max(end - 65_536, 0)
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        stream.truncate(end)


def _decode(line: str, kind: str, version: int, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise RecordError(f"expected a JSON object a line, got something else: {fault} ({where})") from None
    if not isinstance(row, dict) or set(row) != {"kind", "version", "data", "sha256"}:
        raise RecordError(f"expected a record with kind, version, data and sha256, got other keys ({where})")
    if (row["kind"], row["version"]) != (kind, version):
        came = f"{row['kind']!r} version {row['version']!r}"
        raise RecordError(f"expected a {kind!r} record of version {version}, got {came} ({where})")
    if digest({"kind": kind, "version": version, "data": row["data"]}) != row["sha256"]:
        raise RecordError(f"expected content with SHA-256 {row['sha256']}, got other content: was it edited? ({where})")
    return row["data"]
