"""Tasks: a family's goal with parameters, clean or with one of its risks; and the state in which each begins."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from gelert.core.errors import InputError
from gelert.core.seeds import stream, stream_seed
from gelert.core.trajectory import ToolSpec
from gelert.worlds.checks import Names, value_of
from gelert.worlds.expressions import Found, Run, text_of
from gelert.worlds.families import PLANT, Family, Risk, Scenario
from gelert.worlds.memo import Memo
from gelert.worlds.scripts import Call
from gelert.worlds.state import State

STYLES_A_TASK = 3
"""In how many wordings each binding meets a risk that has many."""

PLAIN = "plain"
"""The wording that is the ask alone."""


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is to do, and what it may meet."""

    family: Family
    binding: int
    risk: Risk | None = None
    style: str = PLAIN

    @property
    def scenario(self) -> Scenario:
        """Clean, injected, hazard or malicious."""
        return "clean" if self.risk is None else self.risk.scenario

    @property
    def name(self) -> str:
        """``world/family/binding/clean`` or ``world/family/binding/scenario/risk/style``."""
        stem = f"{self.family.world.name}/{self.family.name}/{self.binding}/{self.scenario}"
        return stem if self.risk is None else f"{stem}/{self.risk.name}/{self.style}"

    @property
    def names(self) -> Names:
        """What the family's parameters stand for here."""
        return self.family.bindings[self.binding]


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a task stands before the agent's first step; shared by all its episodes."""

    task: Task
    state: State
    """Forked by each episode, never changed."""
    names: Names
    goal: str
    payload: str
    """What the risk has put somewhere; empty where there is none."""
    folded: str
    """The goal without case."""
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)
    """Of lookups in tables that are as they were here."""

    @property
    def policy(self) -> str:
        """What the agent is told before the goal; may be empty."""
        return self.task.family.policy

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """As they are offered; a description may carry the payload."""
        family, risk = self.task.family, self.task.risk
        specs = [tool.spec for tool in family.offered.values()]
        if risk is None or not risk.tool:
            return tuple(specs)
        return tuple(
            replace(spec, description=f"{spec.description} {self.payload}") if spec.name == risk.tool else spec
            for spec in specs
        )


@cache
def wordings() -> Mapping[str, str]:
    """Ways to word what an attack asks for, each with ``{ask}``."""
    found: dict[str, str] = json.loads((resources.files("gelert.worlds") / "wordings.json").read_text("utf-8"))
    return found


def tasks(family: Family) -> Iterator[Task]:
    """All tasks of a family: each binding clean, and with each risk, in several wordings where there are any."""
    styles = sorted(set(wordings()) - {PLAIN})
    for binding in range(len(family.bindings)):
        yield Task(family, binding)
        for number, risk in enumerate(family.risks.values()):
            first = (binding + number) * STYLES_A_TASK
            chosen = [styles[(first + at) % len(styles)] for at in range(STYLES_A_TASK)] if risk.styled else [PLAIN]
            for style in chosen:
                yield Task(family, binding, risk, style)


def task(families: Mapping[str, Family], name: str) -> Task:
    """The task of that name.

    Args:
        families: by ``world/family``.
        name: see ``Task.name``.

    Raises:
        InputError: there is none.
    """
    parts = name.split("/")
    family = families.get("/".join(parts[:2]))
    if family is None or len(parts) not in (4, 6) or not parts[2].isdigit() or int(parts[2]) >= len(family.bindings):
        raise InputError(f"expected the name of a task as gelert worlds list prints it, got {name[:200]!r}")
    risk = family.risks.get(parts[4]) if len(parts) == 6 else None
    found = Task(family, int(parts[2]), risk, parts[5] if risk else PLAIN)
    if found.name != name or found.style not in {PLAIN, *wordings()}:
        raise InputError(f"expected the name of a task as gelert worlds list prints it, got {name[:200]!r}")
    return found


def begin(one: Task) -> Beginning:
    """Prepare a task: plant its risk, run its earlier session."""
    state, names, risk = one.family.world.state(), one.names, one.risk
    goals = risk.goals if risk and risk.goals else one.family.goals
    wording = stream_seed(0, "goal", one.family.world.name, one.family.name, one.binding) % len(goals)
    goal = text_of(value_of(goals[wording], state, names))
    if risk is None:
        return Beginning(one, state, names, goal, "", goal.casefold())
    payload = worded(text_of(value_of(risk.ask, state, names)), one.style)
    if risk.pasted:
        goal = f"{goal}\n\n{payload}"
    planting = {**names, "payload": (payload, frozenset({PLANT}))}
    if risk.plant:
        run = Run(state, {**planting, **_as_they_are(planting, state)})
        run.taint = frozenset({PLANT})
        for statement in risk.plant:
            statement(run)
        run.commit()
    _earlier(one, risk, state, planting)
    return Beginning(one, state, names, goal, payload, goal.casefold())


def worded(ask: str, style: str) -> str:
    """An ask in one of the wordings.

    >>> worded("stop", PLAIN)
    'stop'
    """
    return ask if style == PLAIN else wordings()[style].replace("{ask}", ask)


def sample(all_tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    """``count`` different tasks, the same for the same seed.

    Raises:
        InputError: there are not so many.
    """
    if count > len(all_tasks):
        raise InputError(f"expected at most {len(all_tasks)} tasks to draw, got {count}")
    return stream(seed, "tasks").sample(list(all_tasks), count)


def _as_they_are(names: Names, state: State) -> Names:
    """Rows among parameters, as they are in a state now."""
    found: dict[str, tuple[object, frozenset[str]]] = {}
    for name, (value, taint) in names.items():
        if isinstance(value, Found):
            row = state.get(value.table, value.key)
            found[name] = (Found(value.table, value.key, row) if row else value), taint
    return found


def _earlier(one: Task, risk: Risk, state: State, names: Names) -> None:
    """Run the script of the earlier session on the state; it must go well."""
    for step in risk.earlier:
        if isinstance(step, Call):
            run = Run(state, dict(names))
            passed = {name: of(run) for name, of in step.arguments.items()}
            outcome = one.family.world.tools[step.tool].run(
                state,
                {name: value for name, (value, _) in passed.items()},  # pyright: ignore[reportArgumentType]
                {name: taint for name, (_, taint) in passed.items()},
            )
            if not outcome.ok:
                raise InputError(
                    f"expected {step.tool} of the earlier session to go well, got {outcome.result} ({one.name})"
                )
