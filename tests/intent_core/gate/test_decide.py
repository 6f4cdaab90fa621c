import math

import pytest

from intent_core.errors import DataError
from intent_core.evaluation.report import EvaluationReport, Measure
from intent_core.gate.decide import decide
from intent_core.gate.decision import GateDecision
from intent_core.gate.render import render_decision
from intent_core.recipe.config import GateConfig
from tests.support.builders.evaluation_reports import (
    LENIENT,
    Scored,
    by_level,
    check_of,
    lenient,
    measured,
    report_of,
    right,
    verdicts,
    with_rates,
    wrong,
)


def report(intents: int, parameters: int, total: int, *, test: str = "t1") -> EvaluationReport:
    rows = [
        Scored(f"e{i}", i < intents, i < parameters, i < parameters, predicted="")
        for i in range(total)
    ]
    return report_of(rows, digest=f"d{intents}-{parameters}", test=test)


def of_accuracies(intent: float, parameter: float) -> EvaluationReport:
    rates = [
        Measure(value=rate, low=0.95, high=0.97, successes=96, total=100)
        for rate in (intent, parameter)
    ]
    return with_rates(report(96, 96, 100), intent_accuracy=rates[0], parameter_accuracy=rates[1])


# The minimums


def test_minimums_exactly_met_promote() -> None:
    decision = decide(report(90, 60, 100), None, GateConfig())
    assert decision.promote
    assert verdicts(decision) == {
        "min_intent_accuracy": True,
        "min_parameter_accuracy": True,
        "min_test_examples": True,
    }
    assert decision.reason == "All 3 checks passed."
    assert (decision.candidate_digest, decision.champion_digest) == ("d90-60", None)
    assert decision.test_fingerprint == "t1"
    assert decision.comparison is None


def test_the_champion_itself_is_judged_as_the_champion() -> None:
    served = report(90, 60, 100)
    decision = decide(served, None, GateConfig(), is_champion=True)
    assert decision.is_champion and decision.champion_digest == served.artifact_digest
    assert "(this is the champion, test set" in render_decision(decision)
    first = decide(served, None, GateConfig())
    assert not first.is_champion and "(champion none, test set" in render_decision(first)


def test_one_example_below_a_minimum_rejects_and_says_by_how_much() -> None:
    decision = decide(report(801, 999, 1000), None, GateConfig())
    assert not decision.promote
    assert verdicts(decision)["min_parameter_accuracy"]
    # 0.9 - 0.801 = 0.099
    assert decision.reason == (
        "1 of 3 checks failed: min_intent_accuracy is 0.801 (minimum 0.900): short by 0.099."
    )
    assert check_of(decision, "min_intent_accuracy").margin == pytest.approx(-0.099)
    assert not decide(report(899, 999, 1000), None, GateConfig()).promote


def test_a_tiny_shortfall_is_never_shown_as_none() -> None:
    rate = Measure(value=0.89999, low=0.89, high=0.91, successes=89_999, total=100_000)
    candidate = with_rates(report(96, 96, 100), intent_accuracy=rate)
    assert "short by 1e-05" in decide(candidate, None, GateConfig()).reason


def test_too_few_examples_reject() -> None:
    decision = decide(report(99, 99, 99), None, GateConfig())
    assert not decision.promote
    assert decision.reason == (
        "1 of 3 checks failed: min_test_examples is 99 (minimum 100): short by 1."
    )


def test_lower_bound_rejects_what_the_value_passes() -> None:
    # Wilson 95 % of 92/100 starts at 0.850, of 940/1000 at 0.9235.
    small, large = report(92, 92, 100), report(940, 940, 1000)
    careful = GateConfig(compare="lower_bound")
    assert decide(small, None, GateConfig()).promote
    decision = decide(small, None, careful)
    assert not decision.promote
    assert "0.920 (minimum 0.900): lower bound 0.850, short by 0.050" in decision.reason
    assert decide(large, None, careful).promote


def test_a_failed_minimum_names_the_utterances_that_cost_it() -> None:
    decision = decide(report_of(by_level([3, 1, 0, 3, 2])), None, GateConfig())
    assert check_of(decision, "min_intent_accuracy").utterances == ("e2",)
    # 3 of 5 parameters are right, so the check passes; a passing check lists no utterances.
    assert check_of(decision, "min_parameter_accuracy").utterances == ()
    many = check_of(decide(report(0, 0, 100), None, GateConfig()), "min_intent_accuracy")
    assert many.utterances == tuple(f"e{i}" for i in range(20))


def test_every_further_metric_has_its_own_minimum_and_its_own_culprits() -> None:
    rows = [
        right("good"),
        Scored("order", exact=False, reason="wrong_order"),
        Scored("value", parameters=False, exact=False, reason="wrong_value"),
        Scored("broken", False, False, False, predicted="(((", reason="malformed"),
        right("strange", "out_of_scope()"),
        wrong("strange too", "out_of_scope()"),
        Scored("refused", False, False, False, predicted="out_of_scope()"),
        right("end", "音乐退出()"),
    ]
    minimums = {
        "exact_match": 0.6,
        "parse_rate": 0.9,
        "slot_f1": 0.6,
        "out_of_scope_recall": 0.6,
        "out_of_scope_precision": 0.6,
    }
    decision = decide(report_of(rows), None, lenient(minimums=minimums))
    failed = {c.name: (c.value, c.utterances) for c in decision.checks if not c.passed}
    assert failed == {
        "min_exact_match": (3 / 8, ("order", "value", "broken", "strange too", "refused")),
        "min_parse_rate": (7 / 8, ("broken",)),
        "min_slot_f1": (4 / 8, ("value", "broken", "strange too", "refused")),
        "min_out_of_scope_recall": (1 / 2, ("strange too",)),
        "min_out_of_scope_precision": (1 / 2, ("refused",)),
    }
    lower = {name: value / 2 for name, value in minimums.items()}
    assert decide(report_of(rows), None, lenient(minimums=lower)).promote
    # the interval of slot_f1 starts at 0.25 in these reports
    careful = decide(report_of(rows), None, lenient(minimums=lower, compare="lower_bound"))
    assert (
        "min_slot_f1 is 0.500 (minimum 0.300): lower bound 0.250, short by 0.050" in careful.reason
    )


def test_a_metric_without_a_value_rejects_and_says_why() -> None:
    minimums = {"out_of_scope_recall": 0.0, "out_of_scope_precision": 0.0}
    decision = decide(report(9, 9, 9), None, lenient(minimums=minimums))
    assert not decision.promote
    assert decision.reason == (
        "2 of 5 checks failed: min_out_of_scope_recall is unknown (minimum 0): the test split has "
        "no out-of-scope utterances; min_out_of_scope_precision is unknown (minimum 0): no answer "
        "was out_of_scope()."
    )


def test_a_report_on_nothing_is_rejected() -> None:
    decision = decide(report_of([]), None, lenient())
    assert verdicts(decision) == {
        "min_intent_accuracy": False,
        "min_parameter_accuracy": False,
        "min_test_examples": False,
    }


# Comparison with the champion


def test_a_fall_of_exactly_max_regression_passes() -> None:
    # 0.93 - 0.95 = -0.02, regardless of the rounding error of the difference
    allowed = decide(report(93, 93, 100), report(95, 95, 100), LENIENT)
    assert verdicts(allowed)["intent_accuracy_regression"]
    assert allowed.promote
    assert allowed.champion_digest == "d95-95"
    rejected = decide(report(92, 93, 100), report(95, 95, 100), LENIENT)
    assert not rejected.promote
    assert not verdicts(rejected)["intent_accuracy_regression"]
    assert verdicts(rejected)["parameter_accuracy_regression"]
    assert rejected.reason == (
        "1 of 5 checks failed: intent_accuracy_regression is -0.030 (minimum -0.020): short by "
        "0.010, 0 fixed and 3 broken."
    )
    assert check_of(rejected, "intent_accuracy_regression").utterances == ("e92", "e93", "e94")
    assert rejected.comparison is not None
    assert rejected.comparison.intent_accuracy.broken == 3


def test_the_last_bit_of_a_difference_decides_nothing() -> None:
    assert 0.95 - 0.9 < 0.05
    config = lenient(max_regression=0.95 - 0.9)
    assert decide(report(90, 90, 100), report(95, 95, 100), config).promote
    assert not decide(report(89, 90, 100), report(95, 95, 100), config).promote


def test_parameter_regression_alone_rejects() -> None:
    decision = decide(report(95, 92, 100), report(95, 95, 100), LENIENT)
    assert [name for name, passed in verdicts(decision).items() if not passed] == [
        "parameter_accuracy_regression"
    ]


def test_beating_the_champion_does_not_excuse_a_missed_minimum() -> None:
    decision = decide(report(89, 70, 100), report(50, 50, 100), GateConfig())
    assert not decision.promote
    assert verdicts(decision)["intent_accuracy_regression"]


def test_as_many_fixed_as_broken_may_be_chance_that_the_lower_bound_minds() -> None:
    # 10 of 100 fixed, 10 broken. Bonett and Price: 11 / 102 each way, so
    # low = -1.96 * sqrt(22 / 102 / 102) = -0.090
    mine, theirs = by_level([3] * 90 + [0] * 10), by_level([0] * 10 + [3] * 90)
    candidate, champion = report_of(mine), report_of(theirs)
    assert decide(candidate, champion, lenient(max_regression=0)).promote
    decision = decide(candidate, champion, lenient(max_regression=0.05, compare="lower_bound"))
    assert not decision.promote
    assert (
        "intent_accuracy_regression is 0 (minimum -0.050): lower bound -0.090, short by 0.040, "
        "10 fixed and 10 broken" in decision.reason
    )
    assert decide(candidate, champion, lenient(max_regression=0.1, compare="lower_bound")).promote


@pytest.mark.parametrize("compare", ["value", "lower_bound"])
def test_identical_models_pass_with_no_regression_allowed(compare: str) -> None:
    same = report(5, 3, 10)
    assert decide(same, same, lenient(compare=compare, max_regression=0)).promote


def test_reports_on_different_test_splits_are_not_compared() -> None:
    with pytest.raises(DataError, match="Evaluate the champion again") as caught:
        decide(report(95, 95, 100, test="t1"), report(90, 90, 100, test="t2"), LENIENT)
    assert "'t1'" in str(caught.value)
    assert "'t2'" in str(caught.value)


# NaN


@pytest.mark.parametrize("compare", ["value", "lower_bound"])
@pytest.mark.parametrize("which", ["intent", "parameter", "champion", "champion parameter"])
def test_nan_never_promotes(compare: str, which: str) -> None:
    good = of_accuracies(0.96, 0.96)
    candidate = {
        "intent": of_accuracies(math.nan, 0.96),
        "parameter": of_accuracies(0.96, math.nan),
    }.get(which, good)
    champion = {
        "champion": of_accuracies(math.nan, 0.96),
        "champion parameter": of_accuracies(0.96, math.nan),
    }.get(which)
    config = GateConfig.model_validate({"compare": compare})
    assert decide(good, good, config).promote
    decision = decide(candidate, champion, config)
    assert not decision.promote
    assert "not a number" in decision.reason
    again = GateDecision.model_validate_json(decision.model_dump_json())
    assert repr(again) == repr(decision)  # NaN is not equal to itself


def test_a_nan_lower_bound_never_promotes() -> None:
    blind = measured([True] * 96 + [False] * 4).model_copy(update={"low": math.nan})
    candidate = with_rates(report(96, 96, 100), intent_accuracy=blind)
    decision = decide(candidate, None, GateConfig(compare="lower_bound"))
    assert not decision.promote
    again = GateDecision.model_validate_json(decision.model_dump_json())
    assert repr(again) == repr(decision)
