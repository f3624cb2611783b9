"""Which guard a command line means: the default, a card, or a published checkpoint behind an endpoint."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.core.errors import InputError
from gelert.core.records import file_digest
from gelert.guard.card import CARD_FILE, default_card, kind
from gelert.guard.guard import Guard, HeadGuard

if TYPE_CHECKING:
    from gelert.backends.http import Endpoint

BATCH_SECONDS = 600.0
"""For an answer, where ``--at-once`` says that runs are judged in a batch."""

GUARD_HELP = (
    "A guard card (folder or guard.toml), or a published checkpoint as CONTRACT@URL#MODEL[,FINE_MODEL], such as"
    " agentdog-1.5-coarse@http://127.0.0.1:8000/v1#AgentDoG1.5-4B,AgentDoG1.5-FG-4B; the second model is asked for the"
    " diagnosis; either may be an adapter loaded by name (gelert model load); CONTRACT@recorded:FILE replays"
    " answers; or the card of a cascade, which asks a second guard where a first is unsure. Default: the guard that"
    " ships with Gelert."
)


def open_guard(name: str | None, at_once: int | None = None) -> Guard:
    """The guard that ``--guard`` names.

    Args:
        name: of the card or endpoint; the default guard where it is None.
        at_once: runs that an endpoint is asked about at once; ``Endpoint`` says how many where it is None.

    Raises:
        InputError: the name is neither a card nor CONTRACT@URL#MODEL, or ``at_once`` is of no endpoint.
    """
    if name is not None and "@" in name and not Path(name).exists():
        return _endpoint(name, at_once)
    if at_once is not None:
        raise InputError(
            f"expected --at-once with --guard CONTRACT@URL#MODEL, got {name or 'the default guard'!r}, which runs on"
            " this machine and judges one run after another"
        )
    if name is None:
        return HeadGuard.load(default_card())
    path = Path(name)
    if not path.exists():
        raise InputError(f"expected a guard card or CONTRACT@URL#MODEL, got {name!r}, which does not exist")
    match kind(path):
        case "adapter":
            from gelert.guard.adapter import AdapterGuard

            return AdapterGuard.load(path)
        case "cascade":
            return _cascade(path)
        case _:
            return HeadGuard.load(path)


def _cascade(path: Path) -> Guard:
    """Paths in the card are taken from its folder."""
    from gelert.guard.cascade import Cascade, load_cascade

    card = load_cascade(path)
    first = path.parent / card.first if card.first else default_card()
    second = path.parent / card.second
    if second.exists() and kind(second) == "cascade":
        raise InputError(f"expected a guard that judges by itself as second, got another cascade ({second})")
    found = open_guard(str(second) if second.exists() else card.second)
    return Cascade(card, HeadGuard.load(first), found)


def card_digest(name: str | None) -> str:
    """SHA-256 of the card of the guard that ``--guard`` names; empty for an endpoint, which has none."""
    path = default_card() if name is None else Path(name)
    if not path.exists():
        return ""
    return file_digest(path / CARD_FILE if path.is_dir() else path)


def _endpoint(name: str, at_once: int | None) -> Guard:
    from gelert.backends.http import Endpoint, HttpBackend
    from gelert.guard.endpoint import EndpointGuard

    contract, _, address = name.partition("@")
    if address.startswith("recorded:"):
        if at_once is not None:
            raise InputError("expected no --at-once with recorded answers, which come one after another")
        return _recorded(contract, Path(address.removeprefix("recorded:")))
    url, _, models = address.partition("#")
    model, _, fine = models.partition(",")
    if not model:
        raise InputError(f"expected CONTRACT@URL#MODEL, got {name!r} without a #MODEL")
    first = HttpBackend(_asked(Endpoint(url, model), at_once))
    return EndpointGuard(first, contract, HttpBackend(_asked(Endpoint(url, fine), at_once)) if fine else None)


def _asked(endpoint: "Endpoint", at_once: int | None) -> "Endpoint":
    """With the patience that a batch has: a server that works on many answers each of them late."""
    if at_once is None:
        return endpoint
    return replace(endpoint, max_concurrency=at_once, read_seconds=BATCH_SECONDS, deadline_seconds=BATCH_SECONDS)


def _recorded(contract: str, path: Path) -> Guard:
    from gelert.backends.scripted import ScriptedBackend
    from gelert.guard.endpoint import EndpointGuard

    return EndpointGuard(ScriptedBackend.read(path), contract)


guard_option = click.option("--guard", "guard_name", metavar="GUARD", default=None, help=GUARD_HELP)
"""The ``--guard`` option, the same on every command."""

at_once_option = click.option(
    "--at-once",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Runs that a guard behind an endpoint is asked about at once, each with ten minutes for its answer instead of"
    " 90 seconds. Default: 8.",
)
"""The ``--at-once`` option, the same on every command that judges many runs."""
