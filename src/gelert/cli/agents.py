"""Which agent a command line means: a script, a model or an adapter of this machine, or one behind an endpoint."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.core.errors import InputError

if TYPE_CHECKING:
    from gelert.backends.base import Backend
    from gelert.forge.agent_eval import Choose

form_option = click.option(
    "--form",
    type=click.Choice(["hermes", "qwen3-coder", "llama3", "mistral", "short"]),
    default="hermes",
    show_default=True,
    help="Of the model's tool calls.",
)


def open_agent(name: str, form: str) -> "Choose":
    """The agent that ``name`` names; the model is loaded once for all its episodes.

    Raises:
        InputError: it is an adapter that has learnt another form of tool calls.
    """
    if script := scripted(name):
        return script
    from gelert.worlds.model_agent import play
    from gelert.worlds.toolcalls import Form

    check_form(Path(name), form)
    backend = open_model(name)
    return lambda _: lambda episode: _played(play(backend, Form(form), episode).reason)


def scripted(name: str) -> "Choose | None":
    """The script of that name, if there is one."""
    from gelert.worlds import agents

    return {"oracle": agents.oracle, "victim": agents.victim, "refuser": agents.refuser}.get(name)


def open_model(name: str) -> "Backend":
    """A model of this machine by its name, the folder of an adapter, or URL#MODEL."""
    if "#" in name:
        from gelert.backends.http import Endpoint, HttpBackend

        url, _, model = name.partition("#")
        return HttpBackend(Endpoint(url, model))
    from gelert.backends.local_chat import LocalChat

    return LocalChat.load(name)


def on_this_machine(name: str) -> bool:
    """Whether it is neither a script nor behind an endpoint."""
    return scripted(name) is None and "#" not in name


def held_weights(name: str) -> list[str]:
    """SHA-256 of the files of weights that an agent's folder holds; none where it is no folder.

    A name of the registry stands for the same weights always, and those of an endpoint cannot be seen.
    """
    from gelert.forge.agent_folder import weights

    return weights(Path(name)) if on_this_machine(name) and Path(name).is_dir() else []


def check_form(folder: Path, form: str) -> None:
    """What an agent has learnt it does in one form only.

    Raises:
        InputError: it is another one.
    """
    from gelert.forge.agent_folder import CARD

    if not (folder / CARD).is_file():
        return
    try:
        learnt: object = json.loads((folder / CARD).read_text(encoding="utf-8"))["form"]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InputError(
            f"expected the card of an agent with its form of tool calls, got {fault!r} ({folder})"
        ) from None
    if learnt != form:
        raise InputError(f"expected --form {learnt}, which this agent has learnt, got {form!r} ({folder / CARD})")


def _played(reason: str) -> None:
    """A backend that gives no answer is a fault of the run, and not a failing of the agent."""
    if reason:
        raise click.ClickException(
            f"expected an answer of the agent's model, got none: {reason}; run it again to go on"
        )
