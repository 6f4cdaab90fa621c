import gc
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.gate.decide import approve, decide
from intent_core.gate.decision import Approval, GateDecision
from intent_core.recipe.config import GateConfig
from tests.support.builders.evaluation_reports import Scored, by_level, lenient, report_of, verdicts

PER_MILLE = st.integers(0, 1000)
LEVELS = st.lists(st.integers(0, 3), min_size=1, max_size=10)
PAIRS = st.integers(1, 10).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)
)
STRICT = {
    "min_per_intent_support": 2,
    "minimums": {"exact_match": 0.3, "slot_f1": 0.2, "parse_rate": 0.5},
    "min_per_intent": 0.5,
    "max_regression": 0.05,
}
COMPARE = st.sampled_from(["value", "lower_bound"])


@pytest.fixture(scope="module", autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """statsmodels runs the garbage collector in every correction; it takes 90 % of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


def varied(levels: list[int]) -> list[Scored]:
    """Return the levels as utterances of three intents."""
    names = ("weather", "音乐", "out_of_scope")
    return [row._replace(expected=f"{names[i % 3]}()") for i, row in enumerate(by_level(levels))]


@given(LEVELS, PER_MILLE, PER_MILLE, st.integers(1, 12))
def test_promotes_exactly_at_or_above_every_minimum(
    levels: list[int], intent_minimum: int, parameter_minimum: int, enough: int
) -> None:
    total = len(levels)
    config = GateConfig(
        min_intent_accuracy=intent_minimum / 1000,
        min_parameter_accuracy=parameter_minimum / 1000,
        min_test_examples=enough,
    )
    expected = (
        Fraction(sum(x > 0 for x in levels), total) >= Fraction(intent_minimum, 1000)
        and Fraction(sum(x > 1 for x in levels), total) >= Fraction(parameter_minimum, 1000)
        and total >= enough
    )
    assert decide(report_of(by_level(levels)), None, config).promote == expected


@settings(deadline=None)
@given(PAIRS, PER_MILLE, PER_MILLE)
def test_the_lower_bound_never_promotes_what_the_value_rejects(
    levels: tuple[list[int], list[int]], minimum: int, allowed: int
) -> None:
    candidate, champion = (report_of(by_level(chosen)) for chosen in levels)
    rules = {"min_intent_accuracy": minimum / 1000, "max_regression": allowed / 1000}
    if decide(candidate, champion, lenient(**rules, compare="lower_bound")).promote:
        assert decide(candidate, champion, lenient(**rules)).promote


@settings(deadline=None)
@given(PAIRS, PER_MILLE)
def test_regression_agrees_with_exact_arithmetic(
    levels: tuple[list[int], list[int]], allowed: int
) -> None:
    mine, theirs = levels
    difference = Fraction(sum(x > 0 for x in mine) - sum(x > 0 for x in theirs), len(mine))
    candidate, champion = (report_of(by_level(chosen)) for chosen in levels)
    checks = verdicts(decide(candidate, champion, lenient(max_regression=allowed / 1000)))
    assert checks["intent_accuracy_regression"] == (difference >= -Fraction(allowed, 1000))


@settings(deadline=None)
@given(LEVELS, PER_MILLE, COMPARE, st.booleans())
def test_a_champion_never_regresses_against_itself(
    levels: list[int], allowed: int, compare: str, share: bool
) -> None:
    groups = [f"call-{i // 2}" for i in range(len(levels))] if share else []
    same = report_of(by_level(levels, groups))
    decision = decide(same, same, lenient(max_regression=allowed / 1000, compare=compare))
    assert verdicts(decision)["intent_accuracy_regression"]
    assert verdicts(decision)["parameter_accuracy_regression"]


@settings(max_examples=50, deadline=None)
@given(PAIRS, COMPARE, st.data())
def test_one_more_right_answer_turns_no_passed_check_into_a_failed_one(
    levels: tuple[list[int], list[int]], compare: str, data: st.DataObject
) -> None:
    mine, theirs = levels
    place = data.draw(st.integers(0, len(mine) - 1))
    better = [*mine[:place], data.draw(st.integers(mine[place], 3)), *mine[place + 1 :]]
    champion, config = report_of(varied(theirs)), lenient(**STRICT, compare=compare)
    before = verdicts(decide(report_of(varied(mine)), champion, config))
    after = verdicts(decide(report_of(varied(better)), champion, config))
    assert before.keys() == after.keys()
    assert [name for name, passed in before.items() if passed and not after[name]] == []


@settings(max_examples=50, deadline=None)
@given(PAIRS, COMPARE, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_rows_decides_nothing(
    levels: tuple[list[int], list[int]], compare: str, chance: random.Random, share: bool
) -> None:
    mine, theirs = (varied(chosen) for chosen in levels)
    if share:
        mine = [row._replace(group=f"call-{i // 2}") for i, row in enumerate(mine)]
    config = lenient(**STRICT, compare=compare)
    straight = decide(report_of(mine), report_of(theirs), config)
    chance.shuffle(mine)
    chance.shuffle(theirs)
    shuffled = decide(report_of(mine), report_of(theirs), config)
    assert shuffled.reason == straight.reason
    for one, other in zip(straight.checks, shuffled.checks, strict=True):
        assert one.model_dump(exclude={"utterances"}) == other.model_dump(exclude={"utterances"})
        assert sorted(one.utterances) == sorted(other.utterances)


@settings(max_examples=50, deadline=None)
@given(
    PAIRS,
    COMPARE,
    st.sampled_from(["enforce", "manual", "dry_run"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_way_through_the_gate_promotes_with_a_failed_check(
    levels: tuple[list[int], list[int]],
    compare: str,
    mode: str,
    has_champion: bool,
    asked: bool,
    says_yes: bool,
) -> None:
    candidate, champion = (report_of(varied(chosen), latency_ms=9) for chosen in levels)
    config = lenient(**STRICT, compare=compare, mode=mode, max_latency_p95_ms=9)
    decision = decide(candidate, champion if has_champion else None, config)
    if mode == "manual" and asked:
        at = datetime(2026, 3, 1, 9, tzinfo=UTC)
        decision = approve(decision, Approval(approved=says_yes, by="Ada", note="", at=at))
    passes = all(check.passed for check in decision.checks)
    assert decision.passed == passes
    allowed = mode == "enforce" or (mode == "manual" and asked and says_yes)
    assert decision.promote == (passes and allowed)
    assert (decision.comparison is not None) == has_champion
    assert all(check.utterances == () for check in decision.checks if check.passed)
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision
