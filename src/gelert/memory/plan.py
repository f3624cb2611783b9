"""What it takes to remember a text: rank, steps and time, from the law of a sweep on the same model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gelert.core.errors import InputError
from gelert.lm.bank import TARGETS
from gelert.lm.certificate import certify
from gelert.lm.model import LanguageModel
from gelert.lm.objective import Example
from gelert.lm.trunk import Trunk
from gelert.memory.cells import Record, Setup
from gelert.memory.law import compare, predict, resampled, unsaturated

LARGEST = 4096
"""Ranks above this are not looked at: no width here is larger."""


@dataclass(frozen=True)
class Plan:
    """What a text is expected to take."""

    tokens: int
    loss: float
    """What the model does not know of it, nats a token."""
    wanted: float
    """Loss to reach, nats a token: below ``ln 2``, where a token is recalled for sure."""
    rank: int
    """Of a branch beside the sweep's block."""
    low: int
    high: int
    """95 %, from the law's cells drawn anew."""
    parameters: int
    """Numbers in the branch."""
    linear_rank: int
    """Rank with at least as many numbers on all linear maps of the last blocks, as ``gelert memory write`` has them."""
    steps: int
    """As many as the sweep's cells had."""
    seconds: float
    """For these steps, at the sweep's speed on its machine."""
    estimator: str
    extrapolated: bool
    """The text is longer than any of the sweep, or the rank larger."""


def plan(
    model: LanguageModel, examples: Sequence[Example], setup: Setup, records: Sequence[Record], *, blocks: int = 6
) -> Plan:
    """Plan for the texts of ``examples``.

    Args:
        model: the sweep's.
        examples: what is to be recalled.
        setup: of the sweep.
        records: its cells.
        blocks: how many of the last blocks an ordinary adapter would be put on.

    Raises:
        InputError: the sweep has too few unsaturated cells, or no rank is large enough.
    """
    sft = [record for record in records if record.cell.method == "sft"]
    points = unsaturated([record.point for record in sft])
    best = compare(points, resamples=0)[0]
    losses = [loss for one in certify(Trunk(model, 0), examples, None, [0] * len(examples)) for loss in one.losses]
    loss, wanted = sum(losses) / len(losses), math.log(2)
    needed = max(0.0, loss - wanted)
    names = list(best.parameters)
    draws = [dict(zip(names, row.tolist(), strict=True)) for row in resampled(points, best.estimator)]
    rank = _rank(best.estimator, best.parameters, len(losses), needed)
    if rank is None:
        raise InputError(f"expected a rank up to {LARGEST} for {len(losses)} tokens of {loss:.2f} nats, got none")
    spread = [found or LARGEST for found in (_rank(best.estimator, draw, len(losses), needed) for draw in draws)]
    low, high = np.percentile(spread, [2.5, 97.5])
    speed = float(np.median([record.seconds / record.token_steps for record in sft]))
    return Plan(
        tokens=len(losses),
        loss=loss,
        wanted=wanted,
        rank=rank,
        low=int(low),
        high=int(np.ceil(high)),
        parameters=2 * model.width * rank,
        linear_rank=math.ceil(2 * model.width * rank / (blocks * _a_rank(model))),
        steps=setup.steps,
        seconds=speed * len(losses) * setup.steps,
        estimator=best.estimator,
        extrapolated=len(losses) > max(p.length for p in points) or rank > max(p.rank for p in points),
    )


def _rank(estimator: str, parameters: dict[str, float], tokens: int, needed: float) -> int | None:
    """The smallest rank that is expected to take ``needed`` nats a token away."""
    low, high = 1, LARGEST
    if predict(estimator, parameters, high, tokens) < needed:
        return None
    while low < high:
        middle = (low + high) // 2
        if predict(estimator, parameters, middle, tokens) >= needed:
            high = middle
        else:
            low = middle + 1
    return low


def _a_rank(model: LanguageModel) -> int:
    """Numbers that one rank has on all linear maps of a block."""
    weights = dict(model.net.named_parameters())
    names = [name for name in weights if name.startswith("model.layers.0.") and name.split(".")[-2] in TARGETS]
    return sum(sum(weights[name].shape) for name in names)
