"""Labelled runs as the head sees them: hidden states read once and kept on disk."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Trajectory
from gelert.evals.benches import Labelled
from gelert.forge.weak_labels import weak_diagnosis
from gelert.guard.features import Floats, Normal, Place, Readouts, read_whole
from gelert.guard.prompts.render import RENDERING
from gelert.guard.windows import WindowPlan


@dataclass(frozen=True)
class Pool:
    """Runs as the head sees them; all of length ``n``."""

    features: Floats
    """``[n, readouts, width]``, at the end of each run's last window."""
    unsafe: NDArray[np.bool_]
    source: NDArray[np.str_]
    group: tuple[str, ...]
    diagnosis: tuple[Diagnosis, ...]
    """Weak labels, see ``gelert.forge.weak_labels``."""

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> "Pool":
        """The runs at these positions."""
        i = np.asarray(index, dtype=np.intp)
        return Pool(
            self.features[i],
            self.unsafe[i],
            self.source[i],
            tuple(self.group[k] for k in i),
            tuple(self.diagnosis[k] for k in i),
        )

    def normals(self) -> dict[str, Normal]:
        """Center and spread of each source's features."""
        return {str(name): Normal.of(self.features[self.source == name]) for name in np.unique(self.source)}

    def mixed(self) -> list[str]:
        """The sources that hold safe and unsafe runs."""
        names = [str(n) for n in np.unique(self.source)]
        return [n for n in names if 0 < self.unsafe[self.source == n].mean() < 1]

    def standard(self) -> Floats:
        """Every run in units of its own source, so that what separates sources cannot pose as risk.

        A source with one class only has no contrast of its own: its runs are in units of the mean of the other sources.
        """
        normals, mixed = self.normals(), self.mixed()
        cold = Normal.mean([normals[n] for n in mixed] or list(normals.values()))
        out = np.empty_like(self.features)
        for name, normal in normals.items():
            mask = self.source == name
            out[mask] = (normal if name in mixed else cold).apply(self.features[mask])
        return out


@dataclass(frozen=True)
class FeatureReader:
    """Reads runs with a frozen model; what was read is kept under ``folder`` and not read again.

    For each tail the states after all blocks that are run are kept, so that another choice among them costs nothing.
    """

    model: LocalModel
    layers: int
    """Blocks that are run."""
    dtype: str
    plan: WindowPlan
    folder: Path | None = None

    def pool(
        self, examples: Sequence[Labelled], places: Sequence[Place], progress: Callable[[int], None] = lambda _: None
    ) -> Pool:
        """The runs' features at ``places`` and their labels; ``progress`` is told how many are done.

        Raises:
            InputError: no examples.
        """
        if not examples:
            raise InputError("expected labelled runs to fit a guard on, got none")
        rows: list[Floats] = []
        for done, item in enumerate(examples, start=1):
            states = self.states(item.example.trajectory, tuple(dict.fromkeys(tail for tail, _ in places)))
            rows.append(np.stack([states[tail][layer - 1] for tail, layer in places]))
            progress(done)
        return Pool(
            np.stack(rows),
            np.array([e.unsafe for e in examples], dtype=np.bool_),
            np.array([e.source for e in examples]),
            tuple(e.group for e in examples),
            tuple(weak_diagnosis(e.gold) for e in examples),
        )

    def states(self, trajectory: Trajectory, tails: Sequence[str]) -> dict[str, Floats]:
        """Per tail, ``[layers, width]``: the state after each block, at the end of the last window."""
        if self.folder is None:
            return self._read(trajectory, tails)
        content = records.digest(asdict(trajectory))
        paths = {tail: self.folder / f"{content}-{self._key(tail)}.npy" for tail in tails}
        if missing := [tail for tail in tails if not self._kept(paths[tail])]:
            self.folder.mkdir(parents=True, exist_ok=True)
            for tail, found in self._read(trajectory, missing).items():
                partial = paths[tail].with_suffix(f".{os.getpid()}.partial")
                with partial.open("wb") as stream:
                    np.save(stream, found)
                partial.replace(paths[tail])
        return {tail: np.load(paths[tail], allow_pickle=False) for tail in tails}

    def _kept(self, path: Path) -> bool:
        """Whether the states after all blocks that are needed are there."""
        return path.exists() and len(np.load(path, mmap_mode="r", allow_pickle=False)) >= self.layers

    def _read(self, trajectory: Trajectory, tails: Sequence[str]) -> dict[str, Floats]:
        every = [(tail, layer) for tail in tails for layer in range(1, self.layers + 1)]
        flat = read_whole(self.model, trajectory, Readouts.build(every, self.model), self.plan)[-1]
        return dict(zip(tails, flat.reshape(len(tails), self.layers, -1), strict=True))

    def _key(self, tail: str) -> str:
        return records.digest([self.model.fingerprint, self.dtype, tail, asdict(self.plan), RENDERING])[:16]
