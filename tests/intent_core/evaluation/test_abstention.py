import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError
from intent_core.evaluation.abstention import (
    apply_threshold,
    choose_threshold,
    risk_coverage,
)
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import Abstention, RiskPoint
from intent_core.language.calls import is_out_of_scope, parse_calls
from intent_core.recipe.config import EvaluateConfig


def examples_of(golds: Mapping[str, str]) -> list[Example]:
    return [Example(id=i, instruction=f"say {i}", output=gold) for i, gold in golds.items()]


def answers_of(texts: Mapping[str, str]) -> list[Prediction]:
    return [Prediction(example_id=i, text=text) for i, text in texts.items()]


def test_unsure_answers_count_as_out_of_scope() -> None:
    examples = examples_of({"1": "out_of_scope()", "2": "f()", "3": "f()", "4": "out_of_scope()"})
    predictions = [
        Prediction(example_id="1", text="g()", confidence=0.2),
        Prediction(example_id="2", text="f()", confidence=0.3),
        Prediction(example_id="3", text="f()", confidence=0.9),
        Prediction(example_id="4", text="g(", confidence=0.4),
    ]
    report = evaluate(
        examples, predictions, threshold=0.35, chosen_on="validation", known_intents=["f", "g"]
    )
    # 1 and 2 are read as out_of_scope(), which is right for 1 and wrong for 2
    assert report.outcomes.exact == "1010"
    assert report.abstention == Abstention(threshold=0.35, num_abstained=2, chosen_on="validation")
    assert [(f.predicted, f.reason) for f in report.failures] == [
        ("out_of_scope()", "wrong_intent"),
        ("g(", "malformed"),
    ]
    assert report.unknown_intent_rate is not None
    assert report.unknown_intent_rate.successes == 0
    # the PAI guide's metrics and the risk-coverage curve use the raw answers: 2 and 3 are right
    assert report.documents.intent_accuracy == 0.5
    assert [(p.threshold, p.coverage, p.risk) for p in report.risk_coverage] == [
        (0.9, 0.25, 0),
        (0.4, 0.5, 0.5),
        (0.3, 0.75, pytest.approx(1 / 3)),
        (0.2, 1.0, 0.5),
    ]
    by_recipe = evaluate(examples, predictions, EvaluateConfig(abstain_below=0.35))
    assert by_recipe.outcomes == report.outcomes
    plain = evaluate(examples, predictions, EvaluateConfig(abstain_below=0.35), threshold=0.0)
    assert (plain.outcomes.exact, plain.abstention) == ("0110", None)


def test_out_of_scope_by_hand() -> None:
    golds = {"1": "out_of_scope()", "2": "out_of_scope()", "3": "f()", "4": "f();out_of_scope()"}
    answers = {"1": "out_of_scope()", "2": "f()", "3": "out_of_scope()", "4": "f();out_of_scope()"}
    report = evaluate(examples_of(golds), answers_of(answers))
    assert report.out_of_scope_recall is not None
    assert report.out_of_scope_precision is not None
    # 1 and 2 are out of scope, and 1 is found; 1 and 3 are answered as out of scope
    assert (report.out_of_scope_recall.successes, report.out_of_scope_recall.total) == (1, 2)
    assert (report.out_of_scope_precision.successes, report.out_of_scope_precision.total) == (1, 2)
    without = evaluate(examples_of({"1": "f()"}), answers_of({"1": "f()"}))
    assert without.out_of_scope_recall is without.out_of_scope_precision is None


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), None])
def test_what_is_no_confidence_is_none(confidence: float | None) -> None:
    answer = Prediction(example_id="1", text="f()", confidence=confidence)
    report = evaluate(examples_of({"1": "f()"}), [answer], threshold=0.5)
    assert report.outcomes.confidence == (None,)
    assert (report.outcomes.exact, report.risk_coverage) == ("1", ())


@pytest.mark.parametrize(
    ("calls", "expected"),
    [("out_of_scope()", True), ("out_of_scope();f()", False), ("f()", False)],
)
def test_out_of_scope_is_that_one_call(calls: str, expected: bool) -> None:
    assert is_out_of_scope(parse_calls(calls)) is expected


def test_a_threshold_replaces_what_is_below_it_and_nothing_else() -> None:
    predictions = [
        Prediction(example_id="1", text="f()", confidence=0.5, latency_ms=7),
        Prediction(example_id="2", text="f(", error="column 3", confidence=0.49),
        Prediction(example_id="3", text="f()"),
    ]
    first, second, third = apply_threshold(predictions, 0.5)
    assert (first, third) == (predictions[0], predictions[2])
    assert (second.text, second.error, second.confidence) == ("out_of_scope()", None, 0.49)


def test_a_threshold_by_hand() -> None:
    golds = {"1": "out_of_scope()", "2": "f()", "3": "out_of_scope()", "4": "f()"}
    confidences = {"1": 0.1, "2": 0.2, "3": 0.3, "4": 0.9}
    predictions = [
        Prediction(example_id=i, text="f()", confidence=confidence)
        for i, confidence in confidences.items()
    ]
    # exact matches: 2 at threshold 0, 3 at 0.2, 2 at 0.3, 3 at 0.9: the lowest of the best wins
    assert choose_threshold(examples_of(golds), predictions, EvaluateConfig()) == 0.2
    # if nothing is out of scope, no threshold helps
    in_scope = examples_of(dict.fromkeys(golds, "f()"))
    assert choose_threshold(in_scope, predictions, EvaluateConfig()) == 0.0
    # if everything is out of scope, only the highest threshold is high enough
    outside = examples_of(dict.fromkeys(golds, "out_of_scope()"))
    assert choose_threshold(outside, predictions, EvaluateConfig()) == 1.0
    assert choose_threshold(outside, [], EvaluateConfig()) == 0.0
    with pytest.raises(DataError, match="unknown example: '5'"):
        choose_threshold(outside, [Prediction(example_id="5", text="f()")], EvaluateConfig())


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["f()", "out_of_scope()"]),
        st.sampled_from(["f()", "out_of_scope()", "f("]),
        st.none() | st.sampled_from([0.1, 0.2, 0.5, 0.7, 1.0]),
    ),
    min_size=1,
    max_size=6,
)


@given(ANSWERS)
def test_no_other_threshold_is_better(answers: list[tuple[str, str, float | None]]) -> None:
    examples = examples_of({str(n): gold for n, (gold, _, _) in enumerate(answers)})
    predictions = [
        Prediction(example_id=str(n), text=text, confidence=confidence)
        for n, (_, text, confidence) in enumerate(answers)
    ]

    def num_exact(threshold: float) -> int:
        return evaluate(examples, predictions, threshold=threshold).exact_match.successes

    chosen = choose_threshold(examples, predictions, EvaluateConfig())
    tried = {0.0, 1.0} | {c for _, _, c in answers if c is not None}
    exact = {threshold: num_exact(threshold) for threshold in tried}
    best = max(exact.values())
    assert chosen == min(threshold for threshold in tried if exact[threshold] == best)


def test_risk_and_coverage_by_hand() -> None:
    points = risk_coverage([0.5, 0.9, 0.5, 0.1], [True, True, False, False])
    # equally confident answers share a point: 1 of 4, 3 of 4, all
    assert points == (
        RiskPoint(threshold=0.9, coverage=0.25, risk=0.0),
        RiskPoint(threshold=0.5, coverage=0.75, risk=1 / 3),
        RiskPoint(threshold=0.1, coverage=1.0, risk=0.5),
    )
    assert risk_coverage([], []) == ()


def test_risk_and_coverage_have_at_most_a_hundred_points() -> None:
    points = risk_coverage([n / 1000 for n in range(1000)], [n % 2 == 0 for n in range(1000)])
    assert len(points) == 100
    assert [p.coverage for p in points[:2]] == [0.01, 0.02]
    assert (points[-1].coverage, points[-1].risk, points[-1].threshold) == (1.0, 0.5, 0.0)
    assert all(math.isclose(p.risk, 0.5) for p in points)
