"""Which agent a command line means: a script, a model of this machine, or one behind an endpoint."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gelert.backends.base import Backend
    from gelert.forge.agent_eval import Choose

form_option = click.option(
    "--form",
    type=click.Choice(["hermes", "qwen3-coder", "llama3", "mistral"]),
    default="hermes",
    show_default=True,
    help="Of the model's tool calls.",
)


def open_agent(name: str, form: str) -> "Choose":
    """The agent that ``name`` names; the model is loaded once for all its episodes."""
    if script := scripted(name):
        return script
    from gelert.worlds.model_agent import play
    from gelert.worlds.toolcalls import Form

    backend = open_model(name)
    return lambda _: lambda episode: _played(play(backend, Form(form), episode).reason)


def scripted(name: str) -> "Choose | None":
    """The script of that name, if there is one."""
    from gelert.worlds import agents

    return {"oracle": agents.oracle, "victim": agents.victim, "refuser": agents.refuser}.get(name)


def open_model(name: str) -> "Backend":
    """A model of this machine by its name, or URL#MODEL."""
    if "#" in name:
        from gelert.backends.http import Endpoint, HttpBackend

        url, _, model = name.partition("#")
        return HttpBackend(Endpoint(url, model))
    from gelert.backends.local_chat import LocalChat

    return LocalChat.load(name)


def _played(reason: str) -> None:
    """A backend that gives no answer is a fault of the run, and not a failing of the agent."""
    if reason:
        raise click.ClickException(
            f"expected an answer of the agent's model, got none: {reason}; run it again to go on"
        )
