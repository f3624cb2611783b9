"""Who does the work of a command: this process, several, or a Ray cluster."""

from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., None])

ray_option = click.option(
    "--ray", default="", metavar="ADDRESS", help="Of a Ray cluster that does it; 'local' for one of this machine."
)

workers_option = click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")


def spread_options(command: Command) -> Command:
    """``--workers`` and ``--ray``, the same on every command whose work can be spread; see ``Workers``."""
    return workers_option(ray_option(command))
