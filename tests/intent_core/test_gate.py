import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.config import GateConfig
from intent_core.errors import DataError
from intent_core.evaluation import DocumentsScore, EvaluationReport, Measure
from intent_core.gate import GateDecision, decide, render_decision
from intent_core.statistics import wilson_interval

LENIENT = GateConfig(min_intent_accuracy=0, min_parameter_accuracy=0, min_test_examples=1)


def measure(successes: int, total: int) -> Measure:
    low, high = wilson_interval(successes, total)
    return Measure(value=successes / total, low=low, high=high, successes=successes, total=total)


def report(intents: int, parameters: int, total: int, *, test: str = "t1") -> EvaluationReport:
    return EvaluationReport(
        artifact_digest=f"d{intents}-{parameters}",
        test_fingerprint=test,
        num_examples=total,
        intent_accuracy=measure(intents, total),
        parameter_accuracy=measure(parameters, total),
        exact_match=measure(parameters, total),
        parse_rate=measure(total, total),
        slot_f1=0.5,
        documents=DocumentsScore(intent_accuracy=0.5, parameter_accuracy=0.5),
        per_intent=(),
        failures=(),
        correct_ids=(),
        latency_p50_ms=None,
        latency_p95_ms=None,
    )


def verdicts(decision: GateDecision) -> dict[str, bool]:
    return {check.name: check.passed for check in decision.checks}


def with_rates(intent: float, parameter: float) -> EvaluationReport:
    rates = [
        Measure(value=rate, low=0.95, high=0.97, successes=96, total=100)
        for rate in (intent, parameter)
    ]
    return report(96, 96, 100).model_copy(
        update={"intent_accuracy": rates[0], "parameter_accuracy": rates[1]}
    )


def test_minimums_exactly_met_promote() -> None:
    decision = decide(report(90, 60, 100), None, GateConfig())
    assert decision.promote
    assert verdicts(decision) == {
        "min_intent_accuracy": True,
        "min_parameter_accuracy": True,
        "min_test_examples": True,
    }
    assert decision.reason == "All 3 checks pass."
    assert (decision.candidate_digest, decision.champion_digest) == ("d90-60", None)
    assert decision.test_fingerprint == "t1"


def test_one_example_below_a_minimum_rejects_and_says_by_how_much() -> None:
    decision = decide(report(801, 999, 1000), None, GateConfig())
    assert not decision.promote
    assert verdicts(decision)["min_parameter_accuracy"]
    # 0.9 - 0.801 = 0.099
    assert decision.reason == (
        "1 of 3 checks failed: min_intent_accuracy 0.801 against 0.900, short by 0.099."
    )
    assert not decide(report(899, 999, 1000), None, GateConfig()).promote


def test_a_tiny_shortfall_is_never_shown_as_none() -> None:
    decision = decide(report(89_999, 100_000, 100_000), None, GateConfig())
    assert "short by 1e-05" in decision.reason


def test_too_few_examples_reject() -> None:
    decision = decide(report(99, 99, 99), None, GateConfig())
    assert not decision.promote
    assert decision.reason == (
        "1 of 3 checks failed: min_test_examples 99 against 100, short by 1."
    )


def test_lower_bound_rejects_what_the_value_passes() -> None:
    # Wilson 95 % of 92/100 starts at 0.850, of 940/1000 at 0.9235.
    small, large = report(92, 92, 100), report(940, 940, 1000)
    careful = GateConfig(compare="lower_bound")
    assert decide(small, None, GateConfig()).promote
    decision = decide(small, None, careful)
    assert not decision.promote
    assert "0.920 against 0.900, lower bound 0.850 short by 0.050" in decision.reason
    assert decide(large, None, careful).promote


def test_a_fall_of_exactly_max_regression_passes() -> None:
    # 0.95 - 0.02 = 0.93, whatever the last bit of the difference says
    allowed = decide(report(93, 93, 100), report(95, 95, 100), LENIENT)
    assert verdicts(allowed)["intent_accuracy_regression"]
    assert allowed.promote
    assert allowed.champion_digest == "d95-95"
    rejected = decide(report(92, 93, 100), report(95, 95, 100), LENIENT)
    assert not rejected.promote
    assert not verdicts(rejected)["intent_accuracy_regression"]
    assert verdicts(rejected)["parameter_accuracy_regression"]
    assert "intent_accuracy_regression 0.920 against 0.930, short by 0.010" in rejected.reason


def test_the_last_bit_of_a_difference_decides_nothing() -> None:
    assert 0.53 - 0.05 > 0.48
    config = LENIENT.model_copy(update={"max_regression": 0.05})
    assert decide(report(48, 48, 100), report(53, 53, 100), config).promote
    assert not decide(report(47, 48, 100), report(53, 53, 100), config).promote


def test_parameter_regression_alone_rejects() -> None:
    decision = decide(report(95, 92, 100), report(95, 95, 100), LENIENT)
    assert [name for name, passed in verdicts(decision).items() if not passed] == [
        "parameter_accuracy_regression"
    ]


def test_beating_the_champion_does_not_excuse_a_missed_minimum() -> None:
    decision = decide(report(89, 70, 100), report(50, 50, 100), GateConfig())
    assert not decision.promote
    assert verdicts(decision)["intent_accuracy_regression"]


def test_reports_on_different_test_splits_are_not_compared() -> None:
    with pytest.raises(DataError, match="scored again on the same test split") as caught:
        decide(report(95, 95, 100, test="t1"), report(90, 90, 100, test="t2"), LENIENT)
    assert "'t1'" in str(caught.value)
    assert "'t2'" in str(caught.value)


@pytest.mark.parametrize("compare", ["value", "lower_bound"])
@pytest.mark.parametrize("which", ["intent", "parameter", "champion", "champion parameter"])
def test_nan_never_promotes(compare: str, which: str) -> None:
    good = with_rates(0.96, 0.96)
    candidate = {
        "intent": with_rates(math.nan, 0.96),
        "parameter": with_rates(0.96, math.nan),
    }.get(which, good)
    champion = {
        "champion": with_rates(math.nan, 0.96),
        "champion parameter": with_rates(0.96, math.nan),
    }.get(which)
    config = GateConfig.model_validate({"compare": compare})
    assert decide(good, good, config).promote
    decision = decide(candidate, champion, config)
    assert not decision.promote
    assert "not a number" in decision.reason


def test_a_nan_lower_bound_never_promotes() -> None:
    blind = measure(96, 100).model_copy(update={"low": math.nan})
    candidate = report(96, 96, 100).model_copy(update={"intent_accuracy": blind})
    assert not decide(candidate, None, GateConfig(compare="lower_bound")).promote


def test_rendered_decision_has_a_verdict_per_check() -> None:
    text = render_decision(decide(report(801, 999, 1000), report(800, 999, 1000), GateConfig()))
    lines = text.splitlines()
    assert lines[0] == "**Reject** `d801-999` (champion `d800-999`, test set `t1`)"
    rows = [line for line in lines if line.startswith("| ")][1:]
    # Wilson 95 % of 801/1000
    assert rows[0] == (
        "| min_intent_accuracy | 0.801 | 0.775 to 0.825 | 0.900 | FAIL: short by 0.099 |"
    )
    assert rows[2] == "| min_test_examples | 1000 | 1000 to 1000 | 100 | pass: above by 900 |"
    # 0.800 - 0.02 = 0.780, and 0.801 is 0.021 above it
    assert rows[3].endswith("| 0.780 | pass: above by 0.021 |")
    assert len(rows) == 5
    assert render_decision(decide(report(90, 60, 100), None, GateConfig())).startswith(
        "**Promote** `d90-60` (champion none"
    )


COUNTS = st.integers(1, 400).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.integers(0, total), st.just(total))
)
PER_MILLE = st.integers(0, 1000)


@given(COUNTS, PER_MILLE, PER_MILLE, st.integers(1, 400))
def test_promotes_exactly_at_or_above_every_minimum(
    counts: tuple[int, int, int], intent_minimum: int, parameter_minimum: int, enough: int
) -> None:
    intents, parameters, total = counts
    config = GateConfig(
        min_intent_accuracy=intent_minimum / 1000,
        min_parameter_accuracy=parameter_minimum / 1000,
        min_test_examples=enough,
    )
    expected = (
        Fraction(intents, total) >= Fraction(intent_minimum, 1000)
        and Fraction(parameters, total) >= Fraction(parameter_minimum, 1000)
        and total >= enough
    )
    assert decide(report(intents, parameters, total), None, config).promote == expected


@given(COUNTS, PER_MILLE)
def test_the_lower_bound_never_promotes_what_the_value_rejects(
    counts: tuple[int, int, int], minimum: int
) -> None:
    intents, parameters, total = counts
    candidate = report(intents, parameters, total)
    config = LENIENT.model_copy(update={"min_intent_accuracy": minimum / 1000})
    careful = config.model_copy(update={"compare": "lower_bound"})
    if decide(candidate, None, careful).promote:
        assert decide(candidate, None, config).promote


@given(COUNTS, COUNTS, PER_MILLE)
def test_regression_agrees_with_exact_arithmetic(
    mine: tuple[int, int, int], theirs: tuple[int, int, int], allowed: int
) -> None:
    config = LENIENT.model_copy(update={"max_regression": allowed / 1000})
    floor = Fraction(theirs[0], theirs[2]) - Fraction(allowed, 1000)
    checks = verdicts(decide(report(*mine), report(*theirs), config))
    assert checks["intent_accuracy_regression"] == (Fraction(mine[0], mine[2]) >= floor)


@given(COUNTS, PER_MILLE)
def test_a_champion_never_regresses_against_itself(
    counts: tuple[int, int, int], allowed: int
) -> None:
    same = report(*counts)
    config = LENIENT.model_copy(update={"max_regression": allowed / 1000})
    checks = verdicts(decide(same, same, config))
    assert checks["intent_accuracy_regression"]
    assert checks["parameter_accuracy_regression"]
