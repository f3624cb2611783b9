"""``gelert worlds play``, ``replay``, ``serve`` and ``bench``: worlds that are being used."""

import json
import re
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gelert.cli.agents import form_option, open_model, scripted
from gelert.core.errors import InputError, missing_extra

if TYPE_CHECKING:
    from gelert.worlds.episode import Episode
    from gelert.worlds.replicas import Plan

HELP = """\
  TOOL {"argument": "value"}   call a tool         answer TEXT   end with an answer
  tools                        what can be called  diff          what has changed, and where values come from
  help                         this                quit          leave without an answer"""


@click.command(
    epilog="""\b
Examples:
  gelert worlds play mail/answer_mail/0/clean
  gelert worlds play mail/answer_mail/0/injected/leak_login/note --agent victim
  gelert worlds play mail/answer_mail/0/clean --agent smollm2-135m --form hermes
  gelert worlds play mail/answer_mail/0/clean --agent http://127.0.0.1:8000/v1#Qwen3-4B
"""
)
@click.argument("name", metavar="TASK")
@click.option("--agent", help="oracle, victim, refuser, a model of this machine, or URL#MODEL. Default: you.")
@form_option
@click.option("--json", "as_json", is_flag=True, help="At the end, the reward and the whole run as one JSON object.")
def play(name: str, agent: str | None, form: str, as_json: bool) -> None:
    """Be the agent in TASK, or watch one: what it calls, what changed, what was tainted and what it earned."""
    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.episode import Episode, kept, truth
    from gelert.worlds.rewards import reward
    from gelert.worlds.tasks import begin, task

    episode = Episode(begin(task(catalogue([name.split("/", maxsplit=1)[0]]), name)))
    click.echo(f"{episode.beginning.task.family.policy}\n\nUSER: {episode.beginning.goal}\n", err=as_json)
    if agent:
        click.echo(_played_by(agent, form, episode), err=as_json)
    else:
        click.echo(HELP, err=as_json)
        while not episode.finished and _turn(episode, err=as_json):
            pass
    earned, decisive = reward(episode), truth(episode)
    if as_json:
        print(json.dumps({**kept(episode), "reward": asdict(earned), "truth": asdict(decisive)}))
        return
    _show_changes(episode)
    for part, value in asdict(earned).items():
        click.echo(f"  {part:14} {value}")
    if episode.beginning.task.risk:
        click.echo(
            f"  steps: risk enters {decisive.entered}, agent acts on it {decisive.failed}, harm {decisive.harmed}"
        )


@click.command(
    epilog="""\b
Example:
  gelert worlds play mail/answer_mail/0/clean --agent oracle --json > run.jsonl && gelert worlds replay run.jsonl
"""
)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
def replay(path: Path) -> None:
    """Play the kept runs of FILE again (JSON lines, as play --json prints them) and compare them to the bit.

    The exit code is 1 when one comes out otherwise.
    """
    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.episode import differs
    from gelert.worlds.tasks import begin, task

    families, same, other = catalogue(), 0, 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            kept = {key: row[key] for key in ("task", "calls", "answer", "changes")}
            what = differs(begin(task(families, kept["task"])), kept)
        except (ValueError, KeyError, TypeError) as fault:
            raise InputError(
                f"expected a run as play --json prints it, got {fault!r} ({path} line {number})"
            ) from fault
        same, other = same + (not what), other + bool(what)
        if what:
            click.echo(f"{path} line {number}: {what}", err=True)
    click.echo(f"{same} runs the same, {other} otherwise")
    if other:
        sys.exit(1)


def _played_by(agent: str, form: str, episode: "Episode") -> str:
    """Let an agent play; gives what it did."""
    if script := scripted(agent):
        script(episode.beginning)(episode)
        how = "finished"
    else:
        from gelert.worlds.model_agent import play as let
        from gelert.worlds.toolcalls import Form

        ended = let(open_model(agent), Form(form), episode)
        how = f"{ended.ending} after {ended.turns} turns, {ended.malformed} of them unreadable {ended.reason}"
    calls = [f"{one.tool} {one.arguments}\n  {one.result}" for one in episode.calls]
    return "\n".join([*calls, f"ANSWER: {episode.answer}", how, ""])


def _turn(episode: "Episode", *, err: bool) -> bool:
    """One line of the person; False where they leave."""
    line = click.prompt(">", prompt_suffix=" ", default="", show_default=False, err=err).strip()
    word, _, rest = line.partition(" ")
    match word:
        case "":
            return True
        case "quit":
            return False
        case "help":
            click.echo(HELP, err=err)
        case "answer":
            episode.finish(rest)
        case "tools":
            for spec in episode.beginning.tools:
                click.echo(f"  {spec.name}: {spec.description}\n    {spec.parameters}", err=err)
        case "diff":
            _show_changes(episode, err=err)
        case _:
            click.echo(episode.call(word, rest or "{}"), err=err)
            if episode.calls and episode.calls[-1].taint:
                click.echo(f"  from outside: {', '.join(sorted(episode.calls[-1].taint))}", err=err)
    return True


def _show_changes(episode: "Episode", *, err: bool = False) -> None:

    from gelert.worlds.episode import changed

    rows = changed(episode)
    click.echo(f"{len(rows)} rows changed" + ":" * bool(rows), err=err)
    for row in rows:
        click.echo(f"  {row['row']}: {row['before']} -> {row['after']}", err=err)
        if row["taint"]:
            click.echo(f"    from outside: {row['taint']}", err=err)


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", value):
        raise click.BadParameter(f"expected up to 32 letters, digits, - and _, got {value!r}")
    return value


@click.command(
    epilog="""\b
Examples:
  gelert worlds serve
  gelert worlds serve mail my-world.json --port 18080
  gelert worlds serve --replicas 4
  gelert worlds serve --replicas 4 --host 10.0.0.1 --name a   # and --name b on another machine, behind a proxy
"""
)
@click.argument("worlds", nargs=-1, metavar="[WORLD|FILE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="There is no authentication: keep it local.")
@click.option("--port", default=18080, show_default=True)
@click.option("--most", default=10_000, show_default=True, help="Episodes at once.")
@click.option("--seconds", default=7200.0, show_default=True, help="That an episode lives after its last call.")
@click.option("--seed", default=0, show_default=True, help="Of the sampler.")
@click.option(
    "--replicas",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes behind the port, which share --most; as many as there are cores is a good number.",
)
@click.option(
    "--name",
    default="",
    callback=_name,
    help="This machine's among several: identifiers of episodes begin with NAME and a point, for a proxy to go by.",
)
def serve(
    worlds: tuple[str, ...], host: str, port: int, most: int, seconds: float, seed: int, replicas: int, name: str
) -> None:
    """Serve worlds over HTTP: catalogue, episodes, tool calls, rewards.

    With replicas, an episode lives in the process that began it, and its calls reach it through whichever takes them.
    One that dies is started anew; what it held is lost, and is answered with 410.
    """
    try:
        import uvicorn

        from gelert.worlds.server import app
    except ModuleNotFoundError as fault:
        if fault.name not in ("uvicorn", "starlette"):
            raise
        raise missing_extra("gelert worlds serve", "serve") from None
    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.episodes import Episodes, settle_collector

    found = catalogue(worlds)
    if replicas > 1:
        from gelert.worlds.replicas import Plan

        _serve_replicas(Plan(worlds, host, port, replicas, most, seconds, seed, name))
        return
    from gelert.worlds.sharded import named

    episodes = Episodes(found, most=most, seconds=seconds, seed=seed, prefix=named(name))
    settle_collector()
    click.echo(f"{len(episodes.tasks)} tasks on http://{host}:{port}", err=True)
    uvicorn.run(app(episodes), host=host, port=port, log_level="warning")


def _serve_replicas(plan: "Plan") -> None:
    """Until SIGINT or SIGTERM, which end all of them."""
    import signal

    from gelert.worlds.replicas import serve as serve_replicas

    def ready(host: str, port: int) -> None:
        click.echo(f"{plan.count} replicas on http://{host}:{port}", err=True)

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with suppress(KeyboardInterrupt):
        serve_replicas(plan, ready, lambda line: click.echo(line, err=True))


@click.command(
    epilog="""\b
Examples:
  gelert worlds bench --loaded 10000 --active 1000 --concurrent 1000
  gelert worlds bench --loaded 1000 --http 1,10,100 --json
"""
)
@click.argument("worlds", nargs=-1, metavar="[WORLD|FILE]...")
@click.option("--loaded", default=10_000, show_default=True, help="Environments in memory.")
@click.option("--active", default=1000, show_default=True, help="Of these, under way at once.")
@click.option("--concurrent", default=1000, show_default=True, help="Calls asked for at once.")
@click.option("--http", "http", default="", metavar="N,N,...", help="Through a server: numbers of calls at once.")
@click.option("--calls", default=5000, show_default=True, help="Of each measurement over HTTP.")
@click.option("--json", "as_json", is_flag=True)
def bench(
    worlds: tuple[str, ...], loaded: int, active: int, concurrent: int, http: str, calls: int, as_json: bool
) -> None:
    """Measure how many environments a process holds and how fast they answer."""
    from gelert.worlds.bench import measure, served

    if not http and not 1 <= concurrent <= active <= loaded:
        raise click.UsageError(f"expected concurrent <= active <= loaded, got {concurrent}, {active} and {loaded}")
    if http:
        rows = [asdict(one) for one in served(loaded, [int(part) for part in http.split(",")], calls, worlds)]
    else:
        rows = [asdict(measure(loaded, active, concurrent, worlds))]
    for row in rows:
        if as_json:
            print(json.dumps(row))
        else:
            print("\n".join(f"{name:20} {value:,.2f}" for name, value in row.items()) + "\n")
