import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.statistics import mcnemar_p_value, wilson_interval

Z = 1.959963984540054


def test_wilson_interval_by_hand() -> None:
    # 8 of 10: centre (p + z^2/2n) / (1 + z^2/n), half z*sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n)
    scale = 1 + Z**2 / 10
    centre = (0.8 + Z**2 / 20) / scale
    half = Z * math.sqrt(0.8 * 0.2 / 10 + Z**2 / 400) / scale
    assert wilson_interval(8, 10) == pytest.approx((centre - half, centre + half))
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_wilson_interval_of_nothing_excludes_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_of_a_clean_sheet_is_not_a_point() -> None:
    low, high = wilson_interval(10, 10)
    assert low == pytest.approx(1 / (1 + Z**2 / 10))
    assert high == pytest.approx(1.0)


def test_wilson_interval_widens_with_confidence() -> None:
    low, high = wilson_interval(8, 10)
    surer_low, surer_high = wilson_interval(8, 10, confidence=0.99)
    assert surer_low < low < high < surer_high


@pytest.mark.parametrize(("successes", "total"), [(-1, 10), (11, 10), (1, 0)])
def test_wilson_interval_refuses_what_is_no_rate(successes: int, total: int) -> None:
    with pytest.raises(DataError, match=f"{successes} successes of {total}"):
        wilson_interval(successes, total)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate_and_stays_in_range(counts: tuple[int, int]) -> None:
    successes, total = counts
    low, high = wilson_interval(successes, total)
    assert -1e-12 <= low <= successes / total + 1e-12
    assert successes / total - 1e-12 <= high <= 1 + 1e-12


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (5, 0, 2 / 2**5),  # both tails: all five one way
        (1, 4, 2 * (1 + 5) / 2**5),  # C(5,0) + C(5,1), twice
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, expected: float) -> None:
    assert mcnemar_p_value(only_first, only_second) == pytest.approx(expected)
    assert mcnemar_p_value(only_second, only_first) == pytest.approx(expected)
