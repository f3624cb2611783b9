"""Safety against utility: where each agent stands, and what a guard in front of it changes."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from gelert.core.errors import missing_extra
from gelert.forge.agent_eval import Figure

COLOURS = ("#4a6a8a", "#b5532f", "#6b8f4e", "#8a6a9a", "#b08a2f", "#5f9ea0", "#7a7a7a", "#a0526b")


def plot(agents: Mapping[str, Sequence[Figure]], path: Path) -> None:
    """Draw harm against utility on clean tasks, and attack success against utility under attack.

    Raises:
        MissingError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("drawing agents", "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(canvas)
    pairs = (("utility, clean", "harm"), ("utility, attacked", "attack success"))
    for ax, (useful, harmful) in zip(canvas.subplots(1, 2).tolist(), pairs, strict=True):
        for place, (name, figures) in enumerate(agents.items()):
            by = {one.name: one.interval for one in figures}
            if useful not in by or harmful not in by:
                continue
            x, y, colour = by[useful], by[harmful], COLOURS[place % len(COLOURS)]
            ax.errorbar(
                [x.value], [y.value], xerr=[[x.value - x.low], [x.high - x.value]],
                yerr=[[y.value - y.low], [y.high - y.value]], marker="o", color=colour, capsize=2, label=name,
            )  # fmt: skip
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(1.02, -0.02)
        ax.set_xlabel(f"{useful} (better to the right)")
        ax.set_ylabel(f"{harmful} (better above)")
        ax.legend(fontsize=8)
    canvas.savefig(path, dpi=90, metadata={"Software": ""})
