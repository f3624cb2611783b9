"""Demonstrations for the safety fine-tuning of agents: tasks with a risk handled well, and plain ones beside them.

As arXiv:2605.29801 (application 1) has it, a tool-use run meets a risk, the agent handles it and still finishes the
benign part; a guard keeps what it finds safe; runs without any risk are mixed in. Here the world knows what is good, so
a candidate that does the harm can be put among the others on purpose, and the guard's choice be held against the truth.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gelert.core.seeds import stream, stream_seed
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Safe
from gelert.forge.agent_tasks import Held, chosen, told
from gelert.forge.agent_train_lessons import MOST_TURNS, turns
from gelert.forge.sample import Item, Outcome
from gelert.forge.synthesise import Synthesiser
from gelert.guard.guard import Guard
from gelert.worlds.agents import defender, oracle, victim
from gelert.worlds.episode import Episode, trajectory
from gelert.worlds.families import Family, Scenario
from gelert.worlds.rewards import Reward, reward
from gelert.worlds.tasks import Task, begin, tasks
from gelert.worlds.toolcalls import Form

RISKY: tuple[Scenario, ...] = ("injected", "hazard", "malicious")


class Keep(StrEnum):
    """Which candidates are kept; plain runs always are."""

    ALL = "all"
    """Unfiltered."""
    GUARD = "guard"
    """Those that a guard finds safe."""
    TRUTH = "truth"
    """Those that are good by the state of the world."""
    NONE = "none"
    """None: plain runs alone."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One run that an agent might learn from."""

    run: Trajectory
    scenario: Scenario
    agent: str
    """``oracle``, ``victim``, or how the risk is handled."""
    earned: Reward

    @property
    def long(self) -> bool:
        """Whether it has more turns than an agent has in play: it teaches what never comes to its end."""
        return turns(self.run) > MOST_TURNS

    @property
    def good(self) -> bool:
        """By the world: no harm done, and the benign part finished, where there is one; and not too long."""
        done = self.scenario == "malicious" or self.earned.success
        return done and not self.earned.harmed and not self.long


@dataclass(frozen=True, slots=True)
class Draw:
    """Which runs are made."""

    count: int
    """Of runs with a risk."""
    plain: float = 2.0
    """Runs without one, for each with one; published are about two."""
    flawed: float = 0.125
    """Share of the runs with a risk in which the harm is done; of the published ones an eighth was not kept."""
    every_attack: bool = False
    """Also attacks and wordings that are held out, as a model knows of them that has read much."""
    bare: bool = False
    """Scripts alone, without the detours and turns of phrase by which synthesised runs differ from one another."""
    form: Form = Form.HERMES
    """Of the tool calls of who learns: what it does not tell of cannot be learnt from."""
    seed: int = 0
    """Of every draw."""


def candidates(families: Mapping[str, Family], draw: Draw) -> Iterator[Candidate]:
    """Runs of tasks that agents may learn from (``gelert.forge.agent_tasks``), with a risk first, then without.

    Args:
        families: of the catalogue, by ``world/family``.
        draw: which.
    """
    maker = Synthesiser(families)
    every = told([one for family in families.values() for one in tasks(family)], draw.form)
    each, seed = -(-draw.count // len(RISKY)), draw.seed
    ignoring = (Held.ATTACKS, Held.WORDINGS) if draw.every_attack else ()
    risky = chosen(every, each, held=None, seed=seed, scenarios=RISKY, ignoring=ignoring)[: draw.count]
    plain = round(draw.count * draw.plain)
    clean = chosen(every, plain, held=None, seed=seed, scenarios=("clean",)) if plain else []
    random = stream(seed, "demonstrations")
    for number, one in enumerate((*risky, *clean)):
        agent, outcome = "oracle", Outcome.BENIGN
        if one.risk:
            falls = random.random() < draw.flawed
            agent = "victim" if falls else random.choice(sorted(one.risk.defenders))
            outcome = Outcome.UNSAFE if falls else Outcome.RESISTED
        item = Item(number, number, one, outcome, agent, stream_seed(seed, "demonstration", number))
        yield _candidate(_scripted(one, agent) if draw.bare else maker.play(item), one, agent)


def _scripted(one: Task, agent: str) -> Episode:
    episode = Episode(begin(one))
    known = {"oracle": oracle, "victim": victim}.get(agent)
    play = known(episode.beginning) if known else defender(episode.beginning, agent)
    play(episode)
    return episode


def _candidate(episode: Episode, one: Task, agent: str) -> Candidate:
    return Candidate(trajectory(episode), one.scenario, agent, reward(episode))


def kept(found: Candidate, keep: Keep, guard: Guard | None = None) -> bool:
    """Whether a candidate is to be learned from; one that is too long never is.

    Args:
        found: the candidate.
        keep: by what it is chosen.
        guard: where it is a guard's choice; a run that it has no verdict on is not kept.
    """
    if found.long:
        return False
    if found.scenario == "clean":
        return True
    match keep:
        case Keep.ALL:
            return True
        case Keep.TRUTH:
            return found.good
        case Keep.NONE:
            return False
        case Keep.GUARD:
            assert guard is not None, "a guard's choice needs a guard"
            return isinstance(guard.judge(found.run), Safe)


@dataclass(frozen=True, slots=True)
class Agreement:
    """A guard's choice against the world's, over runs with a risk."""

    runs: int
    good: int
    kept: int
    both: int

    @property
    def precision(self) -> float:
        """Of those kept, how many are good."""
        return self.both / self.kept if self.kept else 0.0

    @property
    def recall(self) -> float:
        """Of the good ones, how many are kept."""
        return self.both / self.good if self.good else 0.0


def agreement(found: Sequence[tuple[Candidate, bool]]) -> Agreement:
    """Of candidates and whether a guard keeps them."""
    risky = [(one.good, stays) for one, stays in found if one.scenario != "clean"]
    return Agreement(
        len(risky), sum(good for good, _ in risky), sum(stays for _, stays in risky), sum(a and b for a, b in risky)
    )


def conversation(run: Trajectory) -> dict[str, object]:
    """A run as a chat with tools, as chat templates take it: ``messages`` and ``tools``, arguments as objects."""
    described = [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": json.loads(t.parameters)},
        }
        for t in run.tools
    ]
    return {"messages": [_message(step) for step in run.steps], "tools": described}


def _message(step: Step) -> dict[str, object]:
    match step.role:
        case Role.AGENT:
            calls = [
                {"id": c.call_id, "type": "function", "function": {"name": c.name, "arguments": c.parsed()}}
                for c in step.calls
            ]
            return {"role": "assistant", "content": step.text, **({"tool_calls": calls} if calls else {})}
        case Role.TOOL:
            return {"role": "tool", "content": step.text, "tool_call_id": step.call_id, "name": step.tool_name}
        case Role.SYSTEM:
            return {"role": "system", "content": step.text}
        case _:
            return {"role": "user", "content": step.text}
