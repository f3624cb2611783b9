"""A progress bar where somebody looks."""

from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def watched(what: str, total: int) -> Generator[Callable[[int], None]]:
    """A bar on the terminal as a function of how many are done; it does nothing where nobody looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        row = bar.add_task(what, total=total)
        yield lambda done: bar.update(row, completed=done)
