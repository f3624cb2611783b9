"""Gradients on disk, mapped into memory: a row a run, resumable, nothing recomputed when runs are added.

A folder holds one file of rows and an index of records. Its name comes from the fingerprint of what was differentiated
(model, adapter, question) and from the width, so gradients of another model are never mixed in. A row is written before
its index record; what an interrupted run had half written is overwritten by the next.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.core import records
from gelert.core.errors import InputError, RecordError

Floats = NDArray[np.float32]

KIND, VERSION = "gradient", 1


@dataclass(frozen=True)
class GradientStore:
    """Rows of ``width`` float32 numbers by the content hash of the run that each is of."""

    folder: Path
    width: int
    _rows: dict[str, int] = field(default_factory=dict[str, int])
    """Place of each key's row."""

    @classmethod
    def open(cls, folder: Path, fingerprint: str, width: int) -> "GradientStore":
        """The store for gradients of ``fingerprint`` under ``folder``; made where there is none."""
        own = folder / records.digest([fingerprint, width])[:16]
        own.mkdir(parents=True, exist_ok=True)
        store = cls(own, width)
        index = own / "index.jsonl"
        for row in records.read(index, KIND, VERSION) if index.exists() else ():
            store._rows[str(row["key"])] = int(str(row["row"]))
        return store

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions of the keys that have no row yet."""
        return [place for place, key in enumerate(keys) if key not in self._rows]

    def put(self, key: str, gradient: NDArray[np.floating]) -> None:
        """Add one row; it is on disk when this returns.

        Raises:
            InputError: the gradient has another width.
        """
        if gradient.shape != (self.width,):
            raise InputError(f"expected a gradient of {self.width} numbers, got one of shape {gradient.shape}")
        data, row = gradient.astype("<f4").tobytes(), len(self._rows)
        path = self.folder / "rows.f32"
        with path.open("r+b" if path.exists() else "w+b") as stream:
            stream.seek(row * len(data))
            stream.write(data)
        self._rows[key] = row
        body = {"key": key, "row": row, "sha256": hashlib.sha256(data).hexdigest()}
        records.append(self.folder / "index.jsonl", KIND, VERSION, body)

    def fill(self, keys: Sequence[str], compute: Callable[[list[int]], Iterable[NDArray[np.floating]]]) -> None:
        """Compute and add what is missing, each key once.

        Args:
            keys: of all that is wanted.
            compute: is given positions of keys, and gives the gradient of each in that order; each is on disk before
                the next is asked for.
        """
        first = {keys[place]: place for place in reversed(self.missing(keys))}
        places = sorted(first.values())
        for place, gradient in zip(places, compute(places), strict=True):
            self.put(keys[place], gradient)

    def gradients(self, keys: Sequence[str]) -> Floats:
        """``[keys, width]``: mapped from disk where the keys lie there in this order, a copy otherwise.

        Raises:
            InputError: a key has no row.
        """
        if absent := self.missing(keys):
            raise InputError(
                f"expected a stored gradient of every run, got none of {keys[absent[0]]!r} ({self.folder})"
            )
        places = [self._rows[key] for key in keys]
        mapped: Floats = np.memmap(self.folder / "rows.f32", "<f4", "r", shape=(len(self), self.width))
        if places == list(range(places[0], places[0] + len(places))):
            return mapped[places[0] : places[0] + len(places)]
        return mapped[places]

    def check(self) -> None:
        """Compare every row with its hash.

        Raises:
            RecordError: a row was changed; names file and row.
        """
        path = self.folder / "rows.f32"
        for body in records.read(self.folder / "index.jsonl", KIND, VERSION) if self._rows else ():
            row = int(str(body["row"]))
            data = self.gradients([str(body["key"])]).tobytes()
            if hashlib.sha256(data).hexdigest() != body["sha256"]:
                raise RecordError(f"expected row {row} with SHA-256 {body['sha256']}, got other bytes ({path})")
