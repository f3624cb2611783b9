"""Inspect's ``.eval`` archives: a zip of samples, read here, or by inspect_ai where it is compressed with zstandard."""

import importlib
import io
import zipfile
import zlib
from collections.abc import Iterator

from gelert.core.errors import missing_extra
from gelert.guard.formats.limits import Limits
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.sources import decoded

SIGNATURE = b"PK\x03\x04"
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def archived(raw: bytes, limits: Limits) -> Iterator[str]:
    """The samples of an archive, or its whole log, as JSON texts.

    Raises:
        Malformed: it is no such archive, is damaged, is larger inside than ``max_bytes``, or needs inspect_ai.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = [
                m for m in archive.infolist() if m.filename.startswith("samples/") and m.filename.endswith(".json")
            ]
            if not members:
                raise Malformed("expected an Inspect .eval archive with samples/, got another zip; unpack it first")
            if sum(member.file_size for member in members) > limits.max_bytes:
                raise Malformed(f"expected at most max_bytes={limits.max_bytes} in the archive, got more; split it")
            if any(member.compress_type not in _STORED for member in members):
                yield _by_inspect(raw)
                return
            yield from _members(archive, members, limits)
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError) as fault:
        raise Malformed(f"expected a whole .eval archive, got {fault}; fetch the file again") from None


def _members(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], limits: Limits) -> Iterator[str]:
    left = limits.max_bytes
    for member in sorted(members, key=lambda m: m.filename):
        with archive.open(member) as stream:
            inside = stream.read(left + 1)
        left -= len(inside)
        if left < 0:
            raise Malformed(f"expected at most max_bytes={limits.max_bytes} in the archive, got more; split it")
        yield decoded(inside)


def _by_inspect(raw: bytes) -> str:
    """The whole log as inspect_ai reads it; archives compressed with zstandard need it."""
    try:
        log = importlib.import_module("inspect_ai.log")
    except ImportError:
        raise Malformed(str(missing_extra("a zstandard .eval archive", "inspect"))) from None
    try:
        read = log.read_eval_log(io.BytesIO(raw), format="eval", resolve_attachments=True)
        return str(read.model_dump_json())
    except Exception as fault:  # noqa: BLE001 - another library's reader on a stranger's bytes may raise anything
        raise Malformed(f"expected an .eval archive that inspect_ai reads, got {fault}; update inspect_ai") from None
