"""Worlds against load: memory and latency by how many are loaded, in process and over HTTP, as a table and a plot.

Each load is measured by ``gelert worlds bench`` in a process of its own.

    python benchmarks/world_load.py [--loaded 100 1000 10000 100000] [--http 1 10 100 1000] [--out DIR]
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, float]


def bench(*words: str) -> list[Row]:
    command = [sys.executable, "-m", "gelert.cli.main", "worlds", "bench", "--json", *words]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    for row in rows:
        print("  ".join(f"{name} {value:,.2f}" for name, value in row.items()), flush=True)
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def plot(path: Path, loads: Sequence[Row], served: Sequence[Row]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4))
    left: Any = axes[0]
    middle: Any = axes[1]
    right: Any = axes[2]
    loaded = [row["loaded"] for row in loads]
    left.loglog(loaded, [row["peak_mib"] for row in loads], "o-")
    left.axhline(2500, color="0.6", linestyle=":")
    left.set(xlabel="environments loaded, all with a history", ylabel="peak memory of the process, MiB")
    left.annotate("AgentDoG 1.5, 10,000 loaded", (loaded[0], 2500), va="bottom")
    middle.semilogx(loaded, [row["calls_a_second"] for row in loads], "o-")
    middle.set(xlabel="environments loaded", ylabel="calls a second on one core, in process", ylim=(0, None))
    for name in ("p50", "p99"):
        right.loglog(
            [row["concurrent"] for row in served], [row[f"{name}_milliseconds"] for row in served], "o-", label=name
        )
    right.set(xlabel="calls at once over HTTP", ylabel="milliseconds a call")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loaded", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--http", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    loads: list[Row] = []
    for loaded in options.loaded:
        many = str(min(1000, loaded))
        loads += bench("--loaded", str(loaded), "--active", many, "--concurrent", many)
    served = bench("--loaded", "2000", "--http", ",".join(map(str, options.http)), "--calls", "5000")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / "loads.csv", loads)
        write(options.out / "served.csv", served)
        plot(options.out / "load.png", loads, served)


if __name__ == "__main__":
    main()
