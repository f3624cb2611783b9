"""Labelled runs as the head sees them, window by window: read once and kept on disk."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gelert.backends.local import LocalModel
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Origin, Trajectory
from gelert.evals.benches import Labelled
from gelert.forge.weak_labels import weak_diagnosis
from gelert.guard.features import Place, Readouts, read_whole
from gelert.guard.head import Features, Floats, Normal
from gelert.guard.prompts.render import RENDERING
from gelert.guard.traits import COUNTED, Traits
from gelert.guard.windows import WindowPlan
from gelert.guard.words import COUNTING, TERMS, Counts
from gelert.spread.workers import HERE, Workers

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Pool:
    """``n`` runs as the head sees them: ``m`` windows, each of one run."""

    states: Floats
    """``[m, rows, width]``, see ``gelert.guard.head.Features``."""
    words: "csr_matrix"
    """``[m, TERMS]`` counts."""
    traits: Traits
    """``[m, TRAITS]``."""
    owner: NDArray[np.intp]
    """``[m]``: the run of each window, rising; every run has a window."""
    unsafe: NDArray[np.bool_]
    source: NDArray[np.str_]
    group: tuple[str, ...]
    diagnosis: tuple[Diagnosis, ...]
    """Weak labels, see ``gelert.forge.weak_labels``."""
    readouts: int
    """How many of the rows of ``states`` are readouts; the others are pooled layers."""

    @classmethod
    def of(cls, windows: Sequence[Sequence[Features]], examples: Sequence[Labelled], readouts: int) -> "Pool":
        """The pool of these runs' windows."""
        flat = [window for run in windows for window in run]
        return cls(
            np.stack([w.states for w in flat]),
            matrix([w.words for w in flat]),
            np.stack([w.traits for w in flat]),
            np.repeat(np.arange(len(windows), dtype=np.intp), [len(run) for run in windows]),
            np.array([e.unsafe for e in examples], dtype=np.bool_),
            np.array([e.source for e in examples]),
            tuple(e.group for e in examples),
            tuple(weak_diagnosis(e.gold) for e in examples),
            readouts,
        )

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> "Pool":
        """The runs at these positions, with their windows."""
        i = np.asarray(index, dtype=np.intp)
        windows = [np.flatnonzero(self.owner == run) for run in i]
        rows = np.concatenate(windows) if windows else np.zeros(0, np.intp)
        return Pool(
            self.states[rows],
            self.words[rows],
            self.traits[rows],
            np.repeat(np.arange(len(i), dtype=np.intp), [len(w) for w in windows]),
            self.unsafe[i],
            self.source[i],
            tuple(self.group[k] for k in i),
            tuple(self.diagnosis[k] for k in i),
            self.readouts,
        )

    def from_source(self, name: str) -> NDArray[np.bool_]:
        """``[m]``: which windows are of this source."""
        return (self.source == name)[self.owner]

    def normals(self, features: Floats) -> dict[str, Normal]:
        """Center and spread by source of the states or of the traits."""
        return {str(name): Normal.of(features[self.from_source(str(name))]) for name in np.unique(self.source)}

    def mixed(self) -> list[str]:
        """The sources that hold safe and unsafe runs."""
        names = [str(n) for n in np.unique(self.source)]
        return [n for n in names if 0 < self.unsafe[self.source == n].mean() < 1]

    def cold(self, features: Floats) -> Normal:
        """The normalisation for a source not seen, from the sources that hold both classes."""
        normals = self.normals(features)
        return Normal.unseen([normals[n] for n in self.mixed()] or list(normals.values()))

    def standard(self, features: Floats) -> Floats:
        """States or traits of every window in units of its source, so that what separates sources cannot pose as risk.

        A source with one class only has no contrast of its own: its runs are in units of the mean of the other sources.
        """
        mixed, cold = self.mixed(), self.cold(features)
        out = np.empty_like(features)
        for name, normal in self.normals(features).items():
            mask = self.from_source(name)
            out[mask] = (normal if name in mixed else cold).apply(features[mask])
        return out


def content(trajectory: Trajectory) -> str:
    """Identifies a run wherever it lies."""
    return records.digest(asdict(replace(trajectory, origin=Origin())))


def matrix(counts: Sequence[Counts]) -> "csr_matrix":
    """Counts as the rows of a sparse matrix ``[len(counts), TERMS]``."""
    from scipy.sparse import csr_matrix

    starts = np.concatenate([[0], np.cumsum([len(c.terms) for c in counts])])
    terms = np.concatenate([c.terms for c in counts])
    return csr_matrix((np.concatenate([c.counts for c in counts]), terms, starts), shape=(len(counts), TERMS))


@dataclass(frozen=True)
class PoolReader:
    """Reads runs with a frozen model; what was read is kept under ``folder`` and not read again."""

    model: LocalModel
    places: tuple[Place, ...]
    pools: tuple[int, ...]
    plan: WindowPlan
    dtype: str
    folder: Path | None = None

    def pool(
        self,
        examples: Sequence[Labelled],
        progress: Callable[[int], None] = lambda _: None,
        workers: Workers = HERE,
    ) -> Pool:
        """The runs as the head sees them, and their labels.

        Args:
            examples: the runs.
            progress: told how many are done.
            workers: who reads what is not kept; whoever it is, the same bytes are kept.

        Raises:
            InputError: no examples, or one in which no agent acts.
        """
        if not examples:
            raise InputError("expected labelled runs to fit a guard on, got none")
        if not workers.alone:
            if self.folder is None:
                with TemporaryDirectory(prefix="gelert-") as folder:
                    return replace(self, folder=Path(folder)).pool(examples, progress, workers)
            self._fill([item.example.trajectory for item in examples], progress, workers)
        runs: list[list[Features]] = []
        for done, item in enumerate(examples, start=1):
            run = item.example.trajectory
            runs.append(self.windows(run))
            if not runs[-1]:
                raise InputError(f"expected runs in which an agent acts, got one without ({run.origin})")
            progress(done)
        return Pool.of(runs, examples, len(self.places))

    def windows(self, trajectory: Trajectory) -> list[Features]:
        """What the head sees of each window in which the agent acts."""
        if self.folder is None:
            return self._read(trajectory)
        path = self._path(trajectory)
        if not path.exists():
            _keep(path, self._read(trajectory))
        return _kept(path)

    def _read(self, trajectory: Trajectory) -> list[Features]:
        readouts = Readouts.build(self.places, self.pools, self.model)
        return read_whole(self.model, trajectory, readouts, self.plan)

    def _fill(self, trajectories: Sequence[Trajectory], progress: Callable[[int], None], workers: Workers) -> None:
        """Keep what workers read of the runs that are not kept."""
        paths = {self._path(run): run for run in trajectories}
        absent = {path: run for path, run in paths.items() if not path.exists()}
        make = partial(_reading, self.model.elsewhere, self.places, self.pools, self.plan, self.dtype)
        found = zip(absent, workers.in_order(make, absent.values()), strict=True)
        for done, (path, windows) in enumerate(found, start=1):
            _keep(path, windows)
            progress(len(trajectories) - len(absent) + done)

    def _path(self, trajectory: Trajectory) -> Path:
        assert self.folder is not None
        return self.folder / f"{content(trajectory)}-{self._key()}.npz"

    def _key(self) -> str:
        fields = [
            self.model.fingerprint,
            self.dtype,
            self.places,
            self.pools,
            asdict(self.plan),
            RENDERING,
            COUNTING,
            COUNTED,
        ]
        return records.digest(fields)[:16]


def _reading(
    model: Callable[[], LocalModel], places: tuple[Place, ...], pools: tuple[int, ...], plan: WindowPlan, dtype: str
) -> Callable[[Trajectory], list[Features]]:
    """In another process; what it gives is kept by the one that asked."""
    return PoolReader(model(), places, pools, plan, dtype).windows


def _keep(path: Path, windows: Sequence[Features]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.partial")
    with unfinished.open("wb") as stream:
        np.savez(
            stream,
            states=np.array([w.states for w in windows], dtype=np.float32),
            sizes=np.array([len(w.words.terms) for w in windows], dtype=np.int64),
            terms=np.concatenate([np.zeros(0, np.int64), *(w.words.terms for w in windows)]),
            counts=np.concatenate([np.zeros(0, np.float32), *(w.words.counts for w in windows)]),
            traits=np.array([w.traits for w in windows], dtype=np.float32),
        )
    unfinished.replace(path)


def _kept(path: Path) -> list[Features]:
    with np.load(path, allow_pickle=False) as kept:
        cuts = np.cumsum(kept["sizes"])[:-1]
        terms, counts = np.split(kept["terms"], cuts), np.split(kept["counts"], cuts)
        rows = zip(kept["states"], terms, counts, kept["traits"], strict=False)
        return [Features(states, Counts(t, c), traits) for states, t, c, traits in rows]
