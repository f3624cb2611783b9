"""The growing prefix of the data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.lm.curriculum import PUBLISHED, Curriculum, order, published

SHORT = Curriculum((2, 4, 6, 8, 10))


def test_the_share_grows_at_each_boundary_and_stays_at_the_end() -> None:
    assert [SHORT.share(epoch) for epoch in (0, 1, 2, 7, 8, 9, 50)] == [0.2, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_whole_batches_of_the_share_are_active() -> None:
    assert [SHORT.active(epoch, 50, 8) for epoch in (0, 2, 4, 6, 8)] == [8, 16, 24, 40, 48]
    assert SHORT.active(0, 10, 10) == 10
    assert SHORT.active(0, 3, 10) == 3


@given(st.integers(1, 500), st.integers(1, 60), st.integers(0, 12), st.integers(0, 12))
def test_later_epochs_never_learn_less(samples: int, batch: int, first: int, second: int) -> None:
    early, late = sorted([first, second])
    assert 1 <= SHORT.active(early, samples, batch) <= SHORT.active(late, samples, batch) <= samples


@given(st.sampled_from(sorted(PUBLISHED)), st.integers(5, 900))
def test_a_scaled_schedule_keeps_its_stages(key: tuple[str, int], epochs: int) -> None:
    scaled = PUBLISHED[key].curriculum.scaled(epochs)  # pyright: ignore[reportArgumentType]  # keys of the table itself
    assert scaled.epochs == epochs
    assert len(set(scaled.boundaries)) == 5


@given(st.integers(0, 99), st.integers(1, 60))
def test_the_order_is_a_shuffle_of_the_seed(seed: int, samples: int) -> None:
    assert sorted(order(seed, samples)) == list(range(samples))
    assert order(seed, samples) == order(seed, samples)


def test_both_families_have_eight_published_settings() -> None:
    assert [sum(name == family for name, _ in PUBLISHED) for family in ("qwen", "llama")] == [8, 8]
    assert published("llama", 99_000) == PUBLISHED["llama", 32_000]
    assert published("qwen", 8000).learning_rate == 7e-3


def test_schedules_that_do_not_rise_are_refused() -> None:
    with pytest.raises(InputError, match="rising epochs"):
        Curriculum((1, 1, 2, 3, 4))
    with pytest.raises(InputError, match="shares above 0"):
        Curriculum((1, 2), (0.0, 1.0))
    with pytest.raises(InputError, match="at least 5 epochs"):
        SHORT.scaled(4)
