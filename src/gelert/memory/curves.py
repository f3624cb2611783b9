"""Figures of a sweep, each with its data beside it as CSV."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from gelert.core.errors import missing_extra
from gelert.memory.cells import Record
from gelert.memory.law import Fit, Point, predict
from gelert.memory.recall import tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def law(folder: Path, points: Sequence[Point], fit: Fit) -> None:
    """Loss taken away against length, a line a rank: points as measured, lines as fitted."""
    figure, axes = _figure()
    rows: list[tuple[object, ...]] = []
    for rank in sorted({point.rank for point in points}):
        own = sorted((point for point in points if point.rank == rank), key=lambda point: point.length)
        lengths = [point.length for point in own]
        (drawn,) = axes.plot(lengths, [point.gain for point in own], "o", label=f"r={rank}")
        fine = np.geomspace(min(lengths), max(lengths), 50)
        axes.plot(fine, [predict(fit.estimator, fit.parameters, rank, each) for each in fine], color=drawn.get_color())
        rows += [(p.rank, p.length, p.gain, predict(fit.estimator, fit.parameters, p.rank, p.length)) for p in own]
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="loss taken away (nats a token)")
    axes.set_title(f"{fit.estimator}, R² {fit.r_squared:.4f}")
    axes.legend(fontsize=8)
    _save(folder, "law", figure, ("rank", "length", "gain", "fitted"), rows)


def diagram(folder: Path, records: Sequence[Record]) -> None:
    """Share of a text that greedy decoding gives, by length and rank: one panel a method."""
    methods = list(dict.fromkeys(record.cell.method for record in records))
    figure, panels = _figures(len(methods))
    rows: list[tuple[object, ...]] = []
    for axes, method in zip(panels, methods, strict=True):
        own = [record for record in records if record.cell.method == method]
        ranks = sorted({record.cell.rank for record in own})
        lengths = sorted({record.cell.length for record in own})
        grid = np.full((len(ranks), len(lengths)), np.nan)
        for row, rank in enumerate(ranks):
            for column, length in enumerate(lengths):
                cell = [r.accuracy for r in own if (r.cell.rank, r.cell.length) == (rank, length)]
                if cell:
                    grid[row, column] = np.mean(cell)
                    rows.append((method, rank, length, np.mean(cell)))
        drawn = axes.imshow(grid, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="viridis")
        axes.set(title=method, xlabel="length", ylabel="rank")
        axes.set_xticks(range(len(lengths)), [str(length) for length in lengths], fontsize=8)
        axes.set_yticks(range(len(ranks)), [str(rank) for rank in ranks], fontsize=8)
        figure.colorbar(drawn, ax=axes, label="recalled before the first error")
    _save(folder, "phase", figure, ("method", "rank", "length", "accuracy"), rows)


def along(folder: Path, sweep: Path, records: Sequence[Record]) -> None:
    """Probability of each token of the longest text, for each rank."""
    longest = max(record.cell.length for record in records)
    figure, axes = _figure()
    rows: list[tuple[object, ...]] = []
    for record in sorted(records, key=lambda one: one.cell.rank):
        if record.cell.length == longest and record.cell.seed == records[0].cell.seed:
            sure = np.exp(-tokens(sweep, record).losses)
            axes.plot(sure, lw=0.8, label=f"{record.cell.method}, r={record.cell.rank}")
            rows += [(record.cell.method, record.cell.rank, at, p) for at, p in enumerate(sure.tolist())]
    axes.axhline(0.5, color="black", lw=0.8, ls="--")
    axes.set(xlabel="token", ylabel="probability")
    axes.legend(fontsize=7)
    _save(folder, "along", figure, ("method", "rank", "token", "probability"), rows)


def by_rank(folder: Path, records: Sequence[Record]) -> None:
    """Mean recall over lengths and seeds against rank, a line a method."""
    figure, axes = _figure()
    rows: list[tuple[object, ...]] = []
    for method in dict.fromkeys(record.cell.method for record in records):
        own = [record for record in records if record.cell.method == method]
        ranks = sorted({record.cell.rank for record in own})
        means = [float(np.mean([record.accuracy for record in own if record.cell.rank == rank])) for rank in ranks]
        axes.plot(ranks, means, "o-", label=method)
        rows += [(method, rank, mean) for rank, mean in zip(ranks, means, strict=True)]
    axes.set(xscale="log", xlabel="rank", ylabel="recalled before the first error", ylim=(0, 1.02))
    axes.legend()
    _save(folder, "by_rank", figure, ("method", "rank", "accuracy"), rows)


def _figure() -> "tuple[Figure, Axes]":
    figure, panels = _figures(1)
    return figure, panels[0]


def _figures(count: int) -> "tuple[Figure, list[Axes]]":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("--plot", "report") from None
    figure = Figure(figsize=(6.4 * count, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, cast("list[Axes]", list(np.atleast_1d(figure.subplots(1, count))))


def _save(folder: Path, name: str, figure: "Figure", header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=130)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
