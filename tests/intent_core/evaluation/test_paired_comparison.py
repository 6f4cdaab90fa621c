import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.evaluation.paired_comparison import (
    PairedComparison,
    compare_reports,
    list_broken,
    list_fixed,
)
from intent_core.evaluation.report import EvaluationReport
from tests.support.builders.evaluation_reports import Scored, by_level, report_of


def champion_of(levels: list[int]) -> EvaluationReport:
    return report_of(by_level(levels), digest="champion")


def test_what_is_fixed_and_what_is_broken_by_hand() -> None:
    #                 e0 e1 e2 e3 e4 e5 e6 e7
    mine = report_of(by_level([3, 3, 3, 3, 2, 1, 0, 0]))
    theirs = champion_of([0, 1, 2, 3, 3, 3, 3, 0])
    compared = compare_reports(mine, theirs)

    intents = compared.intent_accuracy
    # right: e0-e5 against e1-e6
    assert (intents.candidate, intents.champion, intents.difference) == (6 / 8, 6 / 8, 0)
    assert (intents.fixed, intents.broken) == (1, 1)
    assert intents.p_value == 1

    parameters = compared.parameter_accuracy
    # right: e0-e4 against e2-e6
    assert (parameters.fixed, parameters.broken, parameters.difference) == (2, 2, 0)

    exact = compared.exact_match
    # right: e0-e3 against e3-e6
    assert (exact.name, exact.fixed, exact.broken, exact.difference) == ("exact_match", 3, 3, 0)
    assert compared.fixed_ids == ("e0", "e1", "e2")
    assert compared.broken_ids == ("e4", "e5", "e6")


def test_mcnemar_and_interval_of_an_improvement_by_hand() -> None:
    compared = compare_reports(report_of(by_level([3] * 10)), champion_of([0] * 5 + [3] * 5))
    exact = compared.exact_match
    assert exact.difference == 0.5
    assert exact.p_value == pytest.approx(2 / 2**5)
    # Bonett and Price: (5 + 1) / 12 gained, (0 + 1) / 12 lost; 5/12 -+ 1.96 * 0.1854
    half = 1.959964 * ((6 / 12 + 1 / 12 - (5 / 12) ** 2) / 12) ** 0.5
    assert (exact.low, exact.high) == pytest.approx((5 / 12 - half, 5 / 12 + half), abs=1e-6)
    slots = compared.slot_f1
    assert (slots.candidate, slots.champion, slots.difference) == (1.0, 0.5, 0.5)
    assert 0 < slots.low < 0.5 < slots.high < 1


def test_where_utterances_share_a_source_sources_are_counted() -> None:
    groups = ["call-1"] * 5 + ["call-2"] * 5
    mine = report_of(by_level([3] * 10, groups))
    theirs = report_of(by_level([0] * 5 + [3] * 5, groups), digest="champion")
    grouped = compare_reports(mine, theirs).exact_match
    alone = compare_reports(report_of(by_level([3] * 10)), champion_of([0] * 5 + [3] * 5))
    # One source improved, one did not change: two sign flips, both equally far from 0.
    assert grouped.p_value == 1
    assert alone.exact_match.p_value < 0.07
    assert (grouped.fixed, grouped.broken, grouped.difference) == (5, 0, 0.5)
    assert grouped.low < alone.exact_match.low
    assert grouped.high > alone.exact_match.high


def test_utterances_are_compared_by_id_and_not_by_place() -> None:
    rows, other = by_level([3, 3, 0, 0]), by_level([0, 3, 3, 0])
    straight = compare_reports(report_of(rows), report_of(other, digest="champion"))
    turned = compare_reports(report_of(rows), report_of(other[::-1], digest="champion"))
    assert straight == turned
    assert straight.fixed_ids == ("e0",)
    assert straight.broken_ids == ("e2",)


def test_lists_follow_the_candidates_order_and_the_asked_rate() -> None:
    mine, theirs = report_of(by_level([1, 0, 1, 0])[::-1]), champion_of([3, 3, 3, 0])
    assert list_broken(mine, theirs, "intent_accuracy") == ("e1",)
    assert list_broken(mine, theirs, "parameter_accuracy") == ("e2", "e1", "e0")
    assert list_fixed(theirs, mine, "exact_match") == ("e0", "e1", "e2")


def test_other_splits_and_other_examples_are_not_compared() -> None:
    rows = by_level([3, 3])
    with pytest.raises(DataError, match="Evaluate the champion again") as caught:
        compare_reports(report_of(rows), report_of(rows, digest="champion", test="t2"))
    assert "'t1'" in str(caught.value)
    assert "'t2'" in str(caught.value)
    with pytest.raises(DataError, match=r"2 in one report only, e\.g\. 'e2'"):
        compare_reports(report_of(rows), champion_of([3, 3, 3, 3]))
    with pytest.raises(DataError, match=r"1 in one report only, e\.g\. '明天'"):
        compare_reports(report_of([*rows, Scored("明天")]), champion_of([3, 3]))


def test_of_no_examples_everything_is_possible() -> None:
    compared = compare_reports(report_of([]), report_of([], digest="champion"))
    exact = compared.exact_match
    assert (exact.difference, exact.low, exact.high, exact.p_value) == (0, -1, 1, 1)
    assert compared.fixed_ids == compared.broken_ids == ()


LEVELS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)
)


@settings(max_examples=50, deadline=None)
@given(LEVELS, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_rows_changes_no_number(
    levels: tuple[list[int], list[int]], chance: random.Random, share: bool
) -> None:
    groups = [f"call-{i // 2}" for i in range(len(levels[0]))] if share else []
    mine, theirs = (by_level(chosen, groups) for chosen in levels)
    straight = compare_reports(report_of(mine), report_of(theirs))
    chance.shuffle(mine)
    chance.shuffle(theirs)
    shuffled = compare_reports(report_of(mine), report_of(theirs))
    lists = {"fixed_ids", "broken_ids"}
    assert shuffled.model_dump(exclude=lists) == straight.model_dump(exclude=lists)
    assert sorted(shuffled.fixed_ids) == sorted(straight.fixed_ids)
    assert sorted(shuffled.broken_ids) == sorted(straight.broken_ids)


@settings(max_examples=50, deadline=None)
@given(LEVELS)
def test_turned_round_what_was_fixed_is_broken(levels: tuple[list[int], list[int]]) -> None:
    mine, theirs = (report_of(by_level(chosen)) for chosen in levels)
    there, back = compare_reports(mine, theirs), compare_reports(theirs, mine)
    assert there.fixed_ids == back.broken_ids
    assert there.broken_ids == back.fixed_ids
    for one, other in (
        (there.intent_accuracy, back.intent_accuracy),
        (there.parameter_accuracy, back.parameter_accuracy),
        (there.exact_match, back.exact_match),
    ):
        assert one.difference == -other.difference
        assert (one.fixed, one.broken, one.p_value) == (other.broken, other.fixed, other.p_value)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert one.difference == pytest.approx(one.candidate - one.champion)
    assert PairedComparison.model_validate_json(there.model_dump_json()) == there
