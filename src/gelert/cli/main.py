"""The ``gelert`` command: subcommands are imported only when they run, so that start-up stays fast."""

import importlib
import sys

import click
from typing_extensions import override

from gelert.core.errors import GelertError

COMMANDS: dict[str, tuple[str, str]] = {
    "approvals": ("gelert.cli.approvals", "Answer the calls that the policy asks a person about."),
    "audit": ("gelert.cli.audit", "Check and show the decisions that the service wrote down."),
    "calibrate": ("gelert.cli.calibrate", "Fit a guard to a runtime's own logs, labelled or not."),
    "compare": ("gelert.cli.compare", "Compare two guards on the same runs."),
    "convert": ("gelert.cli.convert", "Turn an agent log of any known format into ATIF."),
    "dashboard": ("gelert.cli.dashboard", "The running service's page: decisions, approvals, labels."),
    "data": ("gelert.cli.data", "Labelled runs out of the worlds: plan, make, check, describe."),
    "doctor": ("gelert.cli.doctor", "Whether an installed guard guards: settings, trust, service, and a live run."),
    "eval": ("gelert.cli.evaluate", "A guard's figures on labelled runs, with intervals and floors."),
    "eval-agent": ("gelert.cli.eval_agent", "What agents get done in the worlds, and what they should not have."),
    "hook": ("gelert.cli.hook", "Ask the running service about one event of a runtime, as its hook does."),
    "install": ("gelert.cli.install", "Put the guard's hooks into the settings of Codex, Claude Code or OpenClaw."),
    "judge": ("gelert.cli.judge", "Judge agent logs: verdict, risk, diagnosis, evidence."),
    "memory": (
        "gelert.cli.memory",
        "Text in an adapter, word for word: how much fits, and the proof of it.",
    ),
    "model": ("gelert.cli.model", "Fetch and list base models; adapters of a running server."),
    "policy": ("gelert.cli.policy", "Check a policy file, and try it on recorded runs."),
    "serve": ("gelert.cli.serve", "A guard as a service in front of agents, with a record of each decision."),
    "taxonomy": ("gelert.cli.taxonomy", "Show the three axes of a diagnosis, and check own leaves."),
    "train": ("gelert.cli.train", "Make a guard from labelled runs."),
    "worlds": ("gelert.cli.worlds", "Simulated tool worlds for agents: prove, play, serve."),
}
"""Name of each subcommand, the module whose ``command`` it is, and its line of help."""

NOT_JUDGED = 2
"""Exit code when something could not be read, judged or found."""


class Lazy(click.Group):
    """A group that lists its commands from a table and imports one when it is called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


EXAMPLES = """\b
Examples:
  gelert judge run.jsonl
  gelert judge logs/ --json --fail-on unsafe
  gelert convert rollout.jsonl run.json --to atif
"""


@click.group(
    cls=Lazy, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="gelert")
def app() -> None:
    """Judge an AI agent's whole trajectory: safe or unsafe, why, and at which step."""


def main() -> None:
    """Run the command line; a GelertError is one line on stderr and exit code 2."""
    try:
        # Outside standalone mode click returns the code of an Exit instead of raising it.
        code: object = app.main(standalone_mode=False)
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.ClickException as fault:
        fault.show()
        sys.exit(NOT_JUDGED)
    except (click.Abort, KeyboardInterrupt):
        print("gelert: stopped; finished records are kept", file=sys.stderr)
        sys.exit(130)
    except GelertError as fault:
        print(f"gelert: {fault}", file=sys.stderr)
        sys.exit(NOT_JUDGED)


if __name__ == "__main__":
    main()
