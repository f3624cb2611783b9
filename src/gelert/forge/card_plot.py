"""The coverage of a dataset card on one page: leaves of the three axes, and how lengths and outcomes are spread."""

import importlib.util
from pathlib import Path

from gelert.core.errors import missing_extra
from gelert.forge.card import DataCard


def plot(card: DataCard, path: Path) -> None:
    """Draw a card as PNG.

    Args:
        card: of a folder.
        path: of the picture.

    Raises:
        MissingError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("drawing a card", "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        **{f"unsafe runs by {axis.replace('_', ' ')}": counts for axis, counts in card.leaves.items()},
        **{f"runs by {name}": card.counts[name] for name in ("outcome", "setting", "entry", "manner", "world")},
    }
    figure = Figure(figsize=(16, 18), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 2).flatten().tolist()
    for ax, (title, counts) in zip(axes, panels.items(), strict=True):
        names = list(counts)[::-1]
        ax.barh([name.replace("_", " ") for name in names], [counts[name] for name in names], color="#4a6a8a")
        ax.set_title(title)
        ax.tick_params(labelsize=8)
    figure.suptitle(f"{card.runs} synthesised runs, {len(card.tuples)} joint tuples")
    figure.savefig(path, dpi=90, metadata={"Software": ""})
