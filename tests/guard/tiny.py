"""A guard on the tiny seeded model: every part is the real one but the weights."""

import numpy as np

from gelert.backends.local import LocalModel
from gelert.core.taxonomy import Axis
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.guard.calibrate import Calibration
from gelert.guard.card import Card, ModelSection, ReadoutSection, WindowSection
from gelert.guard.guard import HeadGuard
from gelert.guard.head import Features, Head, Normal, TraitMap
from gelert.guard.recalibrate import section
from gelert.guard.traits import TRAITS
from gelert.guard.words import TERMS, Counts, WordWeights
from gelert.lm.model import tiny

WIDTH, ROWS = 32, 4


def tiny_guard(*, window: int = 2048, overlap: int = 128, task: int = 64, threshold: float = 0.5) -> HeadGuard:
    """A guard with random weights; scores spread around zero."""
    random = np.random.default_rng(7)
    model = LocalModel(tiny(width=WIDTH))
    classes = {Axis.RISK_SOURCE: ("indirect_prompt_injection", "inherent_agent_failures")}
    head = Head(
        normal=Normal(np.zeros((ROWS, WIDTH), np.float32), np.ones((ROWS, WIDTH), np.float32)),
        verdict=random.normal(size=(ROWS, WIDTH)).astype(np.float32),
        words=WordWeights(np.ones(TERMS, np.float32), random.normal(size=TERMS).astype(np.float32), 0.25),
        traits=TraitMap(
            Normal(np.zeros(TRAITS, np.float32), np.ones(TRAITS, np.float32)),
            random.normal(size=(8, TRAITS)).astype(np.float16).astype(np.float32),
            random.normal(size=8).astype(np.float32),
            random.normal(size=8).astype(np.float32),
        ),
        classes=classes,
        axes={Axis.RISK_SOURCE: random.normal(size=(2, ROWS * WIDTH + TRAITS + 1)).astype(np.float32)},
    )
    card = Card(
        name="tiny",
        model=ModelSection(name="tiny", fingerprint=model.fingerprint, layers=4),
        readouts=(ReadoutSection(tail="\n", layer=2), ReadoutSection(tail="\nVerdict:", layer=3)),
        pools=(1, 3),
        window=WindowSection(tokens=window, overlap=overlap, task=task),
        calibration=section(Calibration(threshold=threshold), "nothing"),
        classes=classes,
    )
    return HeadGuard(card, head, model)


def window(seed: int, *, shift: float = 0.0) -> Features:
    """What a head might see of a window: random, and from a seed."""
    random = np.random.default_rng(seed)
    states = (random.normal(size=(ROWS, WIDTH)) + shift).astype(np.float32)
    terms = np.unique(random.integers(0, TERMS, size=50))
    counts = Counts(terms, random.integers(1, 9, size=len(terms)).astype(np.float32))
    return Features(states, counts, (random.normal(size=TRAITS) + shift).astype(np.float32))


def run(*words: str) -> Trajectory:
    """A run in which user, agent and tool speak in turn."""
    steps = [Step(Role.USER, words[0])]
    for number, word in enumerate(words[1:]):
        if number % 2 == 0:
            steps.append(Step(Role.AGENT, thought="I act.", calls=(ToolCall("shell", word),)))
        else:
            steps.append(Step(Role.TOOL, word))
    return Trajectory(tuple(steps))
