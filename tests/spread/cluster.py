"""A Ray cluster of two machines, both this one, with a core each."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psutil


@contextmanager
def two_machines() -> Generator[Any]:
    """The cluster; ``address`` is where it answers."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]  # an extra

    nice = {"worker_niceness": 0}  # by itself Ray lets whatever runs beside it come first
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": nice}
    found = Cluster(initialize_head=True, head_node_args=head)
    try:
        found.add_node(num_cpus=1)
        yield found
    finally:
        found.shutdown()


def working() -> Iterator[psutil.Process]:
    """The processes of this process's clusters that are at a job."""
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_do"]:
                yield process
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
