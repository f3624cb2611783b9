"""Which guard a command line means: the default, a card, or a published checkpoint behind an endpoint."""

from pathlib import Path

import click

from gelert.core.errors import InputError
from gelert.guard.card import default_card, kind
from gelert.guard.guard import Guard, HeadGuard

GUARD_HELP = (
    "A guard card (folder or guard.toml), or a published checkpoint as CONTRACT@URL#MODEL[,FINE_MODEL], such as"
    " agentdog-1.5-coarse@http://127.0.0.1:8000/v1#AgentDoG1.5-4B,AgentDoG1.5-FG-4B; the second model is asked for the"
    " diagnosis; CONTRACT@recorded:FILE replays answers; or the card of a cascade, which asks a second guard where a"
    " first is unsure. Default: the guard that ships with Gelert."
)


def open_guard(name: str | None) -> Guard:
    """The guard that ``--guard`` names.

    Raises:
        InputError: the name is neither a card nor CONTRACT@URL#MODEL.
    """
    if name is None:
        return HeadGuard.load(default_card())
    if "@" in name and not Path(name).exists():
        return _endpoint(name)
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


def _endpoint(name: str) -> Guard:
    from gelert.backends.http import Endpoint, HttpBackend
    from gelert.guard.endpoint import EndpointGuard

    contract, _, address = name.partition("@")
    if address.startswith("recorded:"):
        return _recorded(contract, Path(address.removeprefix("recorded:")))
    url, _, models = address.partition("#")
    model, _, fine = models.partition(",")
    if not model:
        raise InputError(f"expected CONTRACT@URL#MODEL, got {name!r} without a #MODEL")
    return EndpointGuard(
        HttpBackend(Endpoint(url, model)), contract, HttpBackend(Endpoint(url, fine)) if fine else None
    )


def _recorded(contract: str, path: Path) -> Guard:
    from gelert.backends.scripted import ScriptedBackend
    from gelert.guard.endpoint import EndpointGuard

    return EndpointGuard(ScriptedBackend.read(path), contract)


guard_option = click.option("--guard", "guard_name", metavar="GUARD", default=None, help=GUARD_HELP)
"""The ``--guard`` option, the same on every command."""
