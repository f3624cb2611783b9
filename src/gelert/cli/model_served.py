"""``gelert model served``, ``load`` and ``unload``: the models and adapters of a running server."""

import json
from dataclasses import asdict

import click

EXAMPLES = """\b
Examples:
  gelert model served http://127.0.0.1:8000/v1
  gelert model load http://127.0.0.1:8000/v1 my-adapter adapters/my-adapter
  gelert judge logs/ --guard agentdog-1.0-coarse@http://127.0.0.1:8000/v1#my-adapter
  gelert model unload http://127.0.0.1:8000/v1 my-adapter
"""


@click.command(epilog=EXAMPLES)
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def served(url: str, as_json: bool) -> None:
    """List what the OpenAI-compatible server at URL (up to and with /v1) serves: models, and adapters of them."""
    from gelert.backends.served import served as listed

    rows = listed(url)
    if as_json:
        click.echo(json.dumps({"models": [asdict(row) for row in rows]}, indent=2))
        return
    for row in rows:
        kind = f"adapter of {row.parent}" if row.parent else "model"
        context = f", {row.context} tokens" if row.context else ""
        click.echo(f"{row.name}  {kind}{context}" + (f"  {row.root}" if row.root else ""))


@click.command(epilog=EXAMPLES)
@click.argument("url")
@click.argument("name")
@click.argument("folder")
def load(url: str, name: str, folder: str) -> None:
    """Load the adapter in FOLDER into the vLLM server at URL under NAME, while it runs.

    FOLDER is in PEFT's format and is what the server's machine has there. The server must have been started with
    --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True. An adapter that has changed needs another name or folder:
    the server goes on using what it had read of prompts with the one before.
    """
    from gelert.backends.served import load as loaded

    loaded(url, name, folder)
    click.echo(f"loaded {name}; ask it with --guard CONTRACT@{url}#{name}")


@click.command(epilog=EXAMPLES)
@click.argument("url")
@click.argument("name")
def unload(url: str, name: str) -> None:
    """Have the vLLM server at URL forget the adapter NAME."""
    from gelert.backends.served import unload as unloaded

    unloaded(url, name)
    click.echo(f"unloaded {name}")
