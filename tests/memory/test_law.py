import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.memory.law import (
    ESTIMATORS,
    Point,
    compare,
    fit,
    frontier,
    memory_only,
    predict,
    read_csv,
    unsaturated,
)

QWEN = Path(__file__).parent.parent / "data" / "qwen_law.csv"


def made(c: float, alpha: float, beta: float, b: float, noise: float = 0.0) -> list[Point]:
    generator = np.random.default_rng(0)
    return [
        Point(r, n, 12.0, 12.0 - (c * r**alpha * n**-beta + b) * math.exp(noise * generator.standard_normal()))
        for r in (1, 2, 4, 8)
        for n in (500, 1000, 2000, 4000)
    ]


def test_the_published_figure_refits_to_the_papers_constants() -> None:
    found = fit(read_csv(QWEN), "nls", resamples=50)
    assert found.points == 70
    assert found.parameters["alpha"] == pytest.approx(0.663, abs=0.02)
    assert found.parameters["beta"] == pytest.approx(0.563, abs=0.02)
    assert found.r_squared >= 0.996
    for name, (low, high) in found.intervals.items():
        assert low <= found.parameters[name] <= high


@settings(max_examples=20, deadline=None)
@given(st.floats(50, 150), st.floats(0.4, 0.7), st.floats(0.5, 0.8), st.floats(0.2, 0.6))
def test_a_law_is_found_again(c: float, alpha: float, beta: float, b: float) -> None:
    found = fit(made(c, alpha, beta, b), "nls", resamples=0).parameters
    assert [math.exp(found["log_c"]), found["alpha"], found["beta"], found["b"]] == pytest.approx(
        [c, alpha, beta, b], rel=1e-3
    )


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_predicts_what_it_has_seen(name: str) -> None:
    points = made(60, 0.5, 0.55, 0.0, noise=0.02)
    found = fit(points, name, resamples=20)
    assert found.r_squared > 0.98
    assert found.mape < 5
    assert found.held_out < 15
    assert predict(name, found.parameters, 2, 1000) == pytest.approx(60 * 2**0.5 * 1000**-0.55, rel=0.1)


def test_the_best_at_held_out_cells_comes_first() -> None:
    fits = compare(made(60, 0.5, 0.55, 0.0, noise=0.02), resamples=0)
    assert [one.held_out for one in fits] == sorted(one.held_out for one in fits)


def test_saturated_cells_and_what_is_no_memory_are_left_out() -> None:
    points = [Point(1, 10, 12.0, 0.5), Point(1, 20, 12.0, 3.0), Point(1, 30, 12.0, 12.5)]
    assert unsaturated(points) == [points[1]]
    assert memory_only(points[1:], 10.8) == [Point(1, 20, 10.8, 3.0)]


def test_the_frontier_is_the_longest_exact_text_of_each_rank() -> None:
    cells = [(Point(2, 40, 12.0, 0.1), True), (Point(2, 80, 9.0, 0.1), True), (Point(2, 160, 12.0, 4.0), False)]
    (found,) = frontier([*cells, (Point(1, 40, 12.0, 5.0), False)], 100, 10.0)
    assert (found.rank, found.length, found.parameters) == (2, 80, 396)
    assert found.bits == pytest.approx(80 * 9.0 / math.log(2))
    assert found.bits_a_parameter == found.bits / 396


def test_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two ranks"):
        fit([Point(1, n, 12.0, 5.0) for n in range(1, 9)])
    with pytest.raises(InputError, match="estimator among"):
        fit([], "magic")
    path = tmp_path / "table.csv"
    for content in ("rank,length\n1,2\n", "rank,length,gain\n1,x,3\n", "rank,length,gain\n1,2,-3\n"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="line 2"):
            read_csv(path)
