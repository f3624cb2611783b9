"""The whole forge on one page, drawn from what the commands and benchmarks print.

    gelert data card DATA --json > card.json
    python benchmarks/influence.py real ... > influence.md
    python benchmarks/purify.py ... > purify.md
    python benchmarks/forge_page.py --card card.json --influence influence.md --purify purify.md --out forge.png

Left to right: what was made, whose influence estimates come true, what a purified part is worth, what the shipped guard
(its card) is worth on a source that was left out.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gelert.guard.card import default_card, load

INK, GUARD, FLOOR = "#4a6a8a", "#b5532f", "#b9bec4"
LABEL_HEIGHT = 0.007
"""Of accuracy: two labels stand no closer."""

Row = dict[str, str]


def tables(path: Path) -> list[list[Row]]:
    """The tables of a Markdown file, each row by the names of its columns."""
    found: list[list[Row]] = []
    names: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            names = []
        elif not names:
            names = cells
            found.append([])
        elif set("".join(cells)) != {"-"}:
            found[-1].append(dict(zip(names, cells, strict=True)))
    return found


def triple(text: str) -> tuple[float, float, float]:
    """A figure and its interval."""
    value, low, high = (float(one) for one in re.findall(r"[-+]?\d*\.\d+", text)[:3])
    return value, low, high


def made(ax: Axes, path: Path) -> None:
    card = json.loads(path.read_text(encoding="utf-8"))
    for place, (axis, counts) in enumerate(card["leaves"].items()):
        ax.plot(sorted(counts.values(), reverse=True), marker=".", color=(INK, GUARD, "#6b8f4e")[place])
        ax.annotate(f"{axis.replace('_', ' ')}: {len(counts)} leaves", (0.98, 0.94 - place * 0.07),
                    xycoords="axes fraction", ha="right", color=(INK, GUARD, "#6b8f4e")[place])  # fmt: skip
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("leaf, the commonest first")
    ax.set_ylabel("unsafe runs")
    ax.set_title(f"{card['runs']} runs made, {len(card['tuples'])} joint tuples")


def influence(ax: Axes, path: Path) -> None:
    scores: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for table in tables(path):
        for row in table:
            if "LDS" in row:
                scores[row["method"]].append(triple(row["LDS"]))
    order = sorted(scores, key=lambda name: np.mean([value for value, _, _ in scores[name]]))
    for height, name in enumerate(order):
        for value, low, high in scores[name]:
            ax.plot([low, high], [height, height], color=INK, alpha=0.5)
            ax.plot([value], [height], marker="o", markersize=4, color=GUARD if name == "exact" else INK)
    ax.set_yticks(range(len(order)), order)
    ax.axvline(0, color=FLOOR, linewidth=1)
    ax.set_xlabel("linear datamodelling score (one point a source of targets)")
    ax.set_title("does the estimate come true?")


def purified(ax: Axes, path: Path) -> None:
    (rows,) = tables(path)
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row["budget"] == "none":
            ax.axhline(float(row["accuracy"]), color=FLOOR, linestyle="--", linewidth=1)
            ax.annotate(row["method"], (1000, float(row["accuracy"])), ha="right", va="bottom", fontsize=7)
        else:
            lines[row["method"]].append((int(row["budget"]), float(row["accuracy"])))
    for name, points in lines.items():
        colour = GUARD if name in ("greedy", "exact") else "black" if name == "random" else INK
        ax.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, alpha=1 if colour != INK else 0.5)
    free = 0.0
    for name in sorted(lines, key=lambda one: lines[one][-1][1]):
        at, height = lines[name][-1]
        free = max(free + LABEL_HEIGHT, height)
        ax.annotate(name, (at, height), xytext=(at + 15, free), fontsize=7, va="center")
    ax.set_xlim(200, 1250)
    ax.set_xlabel("budget, runs")
    ax.set_ylabel("accuracy on a source left out, mean of four")
    ax.set_title("what is a purified part worth?")


def shipped(ax: Axes) -> None:
    """Of the card: the guard calibrated beside its floors, on each source left out."""
    told: dict[str, dict[str, tuple[float, float, float]]] = defaultdict(dict)
    for key, value in load(default_card())[0].figures.items():
        parts = key.split(", ", 2)
        if len(parts) == 3 and parts[1] == "left out":
            told[parts[0]][parts[2]] = triple(value)
    judges = {"guard, calibrated": GUARD, "guard": INK, "word count, calibrated": FLOOR, "turn count": "#dfe2e5"}
    for place, (judge, colour) in enumerate(judges.items()):
        heights = np.arange(len(told)) - place * 0.2
        found = [row[judge] for row in told.values()]
        values = np.array([value for value, _, _ in found])
        spread = np.abs(np.array([[low, high] for _, low, high in found]).T - values)
        ax.barh(heights, values, 0.18, color=colour, label=judge, xerr=spread, error_kw={"linewidth": 0.6})
    ax.set_yticks(np.arange(len(told)) - 0.3, list(told))
    ax.set_xlim(0.2, 1)
    ax.set_xlabel("accuracy")
    ax.legend(fontsize=7, loc="lower right")
    ax.set_title("the shipped guard, on a source left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("card", "influence", "purify", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    figure = Figure(figsize=(17, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).flatten().tolist()
    made(axes[0], options.card)
    influence(axes[1], options.influence)
    purified(axes[2], options.purify)
    shipped(axes[3])
    figure.savefig(options.out, dpi=90, metadata={"Software": ""})


if __name__ == "__main__":
    main()
