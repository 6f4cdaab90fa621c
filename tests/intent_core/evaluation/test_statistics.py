import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.evaluation.statistics import (
    clustered_interval,
    f1_interval,
    holm,
    mcnemar_p_value,
    number_groups,
    paired_difference_interval,
    paired_f1_difference,
    sign_flip_p_value,
    sum_by_group,
    wilson_interval,
)

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


def wilson_by_hand(rate: float, size: float) -> tuple[float, float]:
    scale = 1 + Z**2 / size
    centre = (rate + Z**2 / (2 * size)) / scale
    half = Z * math.sqrt(rate * (1 - rate) / size + Z**2 / (4 * size**2)) / scale
    return centre - half, centre + half


def test_clustered_interval_by_hand() -> None:
    outcomes = [1, 1, 1, 1, 0, 0, 1, 0]
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    # p = 5/8; right - expected by group: 3/4, 3/4, -5/4, -1/4, sum of squares 2.75
    # variance between groups 4/3 * 2.75 / 64, of independent trials (15/64) / 7
    effect = (4 / 3 * 2.75 / 64) / (15 / 64 / 7)
    # Student's 97.5 % quantiles with 7 and with 3 degrees of freedom
    size = 8 / effect * (2.364624 / 3.182446) ** 2
    assert clustered_interval(outcomes, groups) == pytest.approx(
        wilson_by_hand(0.625, size), abs=1e-6
    )


def test_clustered_interval_of_single_utterances_is_wilsons() -> None:
    outcomes = [1] * 8 + [0] * 2
    wilson = pytest.approx(wilson_interval(8, 10))
    assert clustered_interval(outcomes) == wilson
    assert clustered_interval(outcomes, ()) == wilson
    assert clustered_interval(outcomes, [str(n) for n in range(10)]) == wilson
    assert clustered_interval([], []) == (0.0, 1.0)


def test_one_source_is_one_trial() -> None:
    assert clustered_interval([1, 1, 0, 1], ["a"] * 4) == pytest.approx(wilson_by_hand(0.75, 1))


def test_few_sources_of_a_clean_sheet_prove_less_than_many_utterances() -> None:
    low, high = clustered_interval([1] * 100, ["a"] * 50 + ["b"] * 50)
    assert low < wilson_interval(100, 100)[0]
    assert high == pytest.approx(1.0)


@example([(False, "a"), (False, "b"), (False, "c")])
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=12))
def test_groups_never_narrow_an_interval(rows: list[tuple[bool, str]]) -> None:
    outcomes = [right for right, _ in rows]
    low, high = clustered_interval(outcomes, [group for _, group in rows])
    alone_low, alone_high = clustered_interval(outcomes)
    assert high - low >= alone_high - alone_low - 1e-9
    assert -1e-9 <= low <= sum(outcomes) / len(rows) <= high + 1e-9 <= 1 + 2e-9


def test_groups_may_be_names_or_numbers() -> None:
    outcomes, names = [1, 0, 1, 1, 0], ["x", "y", "x", "z", "y"]
    numbers = np.array([40, 7, 40, 9, 7])
    by_name = clustered_interval(outcomes, names)
    assert by_name == pytest.approx(clustered_interval(outcomes, numbers))
    assert by_name != clustered_interval(outcomes)
    assert sum_by_group([3, 1, 1, 0, 2], names).tolist() == [4, 3, 0]
    assert sum_by_group([3, 1], None).tolist() == [3, 1]
    with pytest.raises(DataError, match="2 groups for 5 outcomes"):
        number_groups(["a", "b"], 5)


def test_f1_interval_by_hand() -> None:
    # one slot each, half of 100 right: F1 is a fraction; quantiles of binomial(100, 1/2)
    ones = [1] * 100
    hits = [1] * 50 + [0] * 50
    assert f1_interval(hits, ones, ones) == pytest.approx((0.40, 0.60), abs=0.015)
    # four sources, two right and two wrong: one draw in 16 has only wrong sources
    groups = ["a"] * 25 + ["b"] * 25 + ["c"] * 25 + ["d"] * 25
    assert f1_interval(hits, ones, ones, groups) == (0.0, 1.0)


def test_f1_interval_without_variety_is_a_point() -> None:
    assert f1_interval([2, 2], [2, 2], [3, 3]) == pytest.approx((0.8, 0.8))
    assert f1_interval([0, 0], [0, 0], [0, 0]) == (1.0, 1.0)
    assert f1_interval([], [], []) == (1.0, 1.0)


def test_paired_difference_by_hand() -> None:
    # of 10, 3 won and 1 lost: (3 + 1) / 12 and (1 + 1) / 12, variance (1/2 - 1/36) / 12
    candidate = [1, 1, 1, 0, 1, 1, 1, 0, 0, 0]
    champion = [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]
    half = Z * math.sqrt((1 / 2 - 1 / 36) / 12)
    difference, low, high = paired_difference_interval(candidate, champion)
    assert difference == pytest.approx(0.2)
    assert (low, high) == pytest.approx((1 / 6 - half, 1 / 6 + half))
    back = paired_difference_interval(champion, candidate)
    assert back == pytest.approx((-0.2, -high, -low))


def test_models_that_agree_may_still_differ() -> None:
    difference, low, high = paired_difference_interval([1, 0, 1], [1, 0, 1])
    assert difference == 0
    assert low == -high < 0
    _, wide_low, wide_high = paired_difference_interval([1, 0, 1], [1, 0, 1], ["a", "a", "b"])
    assert wide_low < low < high < wide_high
    assert paired_difference_interval([], []) == (0.0, -1.0, 1.0)


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from("abcd")), min_size=1, max_size=12
    )
)
def test_paired_difference_holds_what_was_measured(rows: list[tuple[bool, bool, str]]) -> None:
    candidate, champion = [r[0] for r in rows], [r[1] for r in rows]
    for groups in (None, [r[2] for r in rows]):
        difference, low, high = paired_difference_interval(candidate, champion, groups)
        assert difference == pytest.approx((sum(candidate) - sum(champion)) / len(rows))
        assert -1 <= low <= difference + 1e-9
        assert difference - 1e-9 <= high <= 1


def test_paired_f1_by_hand() -> None:
    counts = ([1, 0, 2], [1, 1, 2], [1, 1, 2])
    assert paired_f1_difference(counts, counts) == (0.0, 0.0, 0.0)
    nothing = ([0, 0, 0], [1, 1, 2], [0, 0, 0])
    difference, low, high = paired_f1_difference(counts, nothing)
    # 2 * 3 / 8 against 0; no draw can reverse the order
    assert difference == 0.75
    assert (low, high) == (0.0, 1.0)
    # both fail on the same utterance, so it cancels out in every draw
    better = ([1] * 50, [1] * 50, [1] * 50)
    worse = ([1] * 49 + [0], [1] * 50, [1] * 50)
    difference, low, high = paired_f1_difference(better, worse, [str(n) for n in range(50)])
    assert difference == pytest.approx(0.02)
    assert (low, high) == (0.0, pytest.approx(0.06, abs=0.021))


def test_sign_flips_by_hand() -> None:
    # 3 + 1 - 1 = 3; of the 8 sign combinations of 3, 1, 1 six are at least as far from 0
    assert sign_flip_p_value([3, 1, -1]) == 6 / 8
    assert sign_flip_p_value([-3, -1, 1, 0, 0]) == 6 / 8
    assert sign_flip_p_value([1] * 5) == 2 / 2**5
    assert sign_flip_p_value([0, 0]) == sign_flip_p_value([]) == 1.0
    assert sign_flip_p_value([0.1, 0.2, -0.3]) == 1.0


def test_sign_flips_of_many_groups_are_drawn() -> None:
    # 9 up and 4 down: twice C(13, 9..13) of 2^13
    expected = 2 * (715 + 286 + 78 + 13 + 1) / 2**13
    assert sign_flip_p_value([1] * 9 + [-1] * 4) == pytest.approx(expected, abs=0.02)
    assert sign_flip_p_value([2] * 40) == 1 / 10_001


def test_holm_by_hand() -> None:
    # sorted: 3 * 0.01, 2 * 0.03, then never less than the previous value
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
