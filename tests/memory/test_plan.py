import math
from dataclasses import replace

import pytest

from gelert.core.errors import InputError
from gelert.lm.model import LanguageModel
from gelert.memory.cells import Cell, Record, Setup
from gelert.memory.corpora import passage, random_tokens
from gelert.memory.plan import plan


def record(rank: int, length: int, gain: float) -> Record:
    return Record(
        Cell(length, rank, "sft", 0), length, 9.0, 9.0 - gain, 0.0, 0.0, 0, 0, 0, 0, 100, 100 * length, 0.1 * length
    )


RECORDS = [record(r, n, 20 * r**0.6 * n**-0.5) for r in (1, 2, 4) for n in (50, 100, 200, 400)]
SETUP = Setup(steps=100)


def test_a_plan_inverts_the_law(model: LanguageModel) -> None:
    text = [passage(model, random_tokens(model, 150))]
    found = plan(model, text, SETUP, RECORDS)
    needed = found.loss - math.log(2)
    assert 20 * found.rank**0.6 * 150**-0.5 >= needed * 0.999
    assert 20 * (found.rank - 1) ** 0.6 * 150**-0.5 < needed
    assert found.low <= found.rank <= found.high
    assert found.seconds == pytest.approx(0.001 * 150 * 100)
    assert found.parameters == 2 * model.width * found.rank


def test_a_longer_text_takes_a_larger_rank_and_is_said_to_be_beyond(model: LanguageModel) -> None:
    short, long = (plan(model, [passage(model, random_tokens(model, n))], SETUP, RECORDS) for n in (60, 600))
    assert short.rank < long.rank
    assert long.extrapolated


def test_a_sweep_without_unsaturated_cells_is_refused(model: LanguageModel) -> None:
    done = [replace(one, final=0.1) for one in RECORDS]
    with pytest.raises(InputError, match="unsaturated"):
        plan(model, [passage(model, [5, 6])], SETUP, done)
