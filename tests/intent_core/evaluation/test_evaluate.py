from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import Prediction, read_answer
from intent_core.evaluation.report import (
    ConfusionCell,
    EvaluationReport,
    Failure,
    Latency,
    Measure,
)


def examples_of(golds: Mapping[str, str]) -> list[Example]:
    return [Example(id=i, instruction=f"say {i}", output=gold) for i, gold in golds.items()]


def score(golds: Mapping[str, str], answers: Mapping[str, str]) -> EvaluationReport:
    predictions = [Prediction(example_id=i, text=text) for i, text in answers.items()]
    return evaluate(examples_of(golds), predictions)


def score_one(gold: str, answer: str) -> tuple[bool, bool, bool, str | None]:
    """Return (intents, parameters, exact, reason) of one pair, read from the report."""
    report = score({"x": gold}, {"x": answer})
    rates = (report.intent_accuracy, report.parameter_accuracy, report.exact_match)
    intents, parameters, exact = (rate.successes == 1 for rate in rates)
    return intents, parameters, exact, report.failures[0].reason if report.failures else None


def test_a_report_by_hand() -> None:
    golds = {
        "a": "weather_search(杭州)",
        "b": "music_exit()",
        "c": "transfer(A,B)",
        "d": "weather_search(北京);music_exit()",
        "e": "transfer(C,D)",
    }
    answers = {
        "a": "weather_search(杭州)",
        "b": "music_exit",
        "c": "transfer(B,A)",
        "d": "music_exit();weather_search(北京)",
    }
    report = score(golds, answers)
    assert report.num_examples == 5
    # right intents: a, c, d; right parameters: a, d; right order: a; parsed: a, c, d
    assert (report.intent_accuracy.successes, report.intent_accuracy.total) == (3, 5)
    assert report.intent_accuracy.value == 0.6
    assert report.parameter_accuracy.value == 0.4
    assert report.exact_match.value == 0.2
    assert report.parse_rate.value == 0.6
    assert report.correct_ids == ("a",)
    # slots expected: a 1, c 2, d 1, e 2 = 6; found: a 1, c 2, d 1 = 4; hits: a and d = 2
    assert report.slots.f1 == pytest.approx(2 * 2 / (6 + 4))
    # PAI guide: a (1, 1); b raises (0, 0); c (1, 1); d first call only, wrong (0, 0); e missing
    assert report.documents.intent_accuracy == 0.4
    assert report.documents.parameter_accuracy == 0.4
    assert [(f.example_id, f.reason) for f in report.failures] == [
        ("b", "malformed"),
        ("c", "wrong_order"),
        ("d", "wrong_order"),
        ("e", "missing_prediction"),
    ]
    assert report.failures[1] == Failure(
        example_id="c",
        instruction="say c",
        expected="transfer(A,B)",
        predicted="transfer(B,A)",
        reason="wrong_order",
    )


def test_per_intent_counts_utterances_that_have_the_intent() -> None:
    golds = {"1": "f(a);g()", "2": "f(b)", "3": "f(c);f(d)"}
    answers = {"1": "f(a);g()", "2": "f(x)", "3": "f(d);f(c)"}
    of_f, of_g = score(golds, answers).per_intent
    assert (of_f.intent, of_f.support) == ("f", 3)
    # intents are right in all three, parameters in 1 and 3, the order in 1 only
    assert (of_f.intent_accuracy.successes, of_f.intent_accuracy.total) == (3, 3)
    assert (of_f.parameter_accuracy.successes, of_f.parameter_accuracy.total) == (2, 3)
    assert of_f.exact_match.value == pytest.approx(1 / 3)
    # Wilson 95 % of 1/3
    interval = (of_f.exact_match.low, of_f.exact_match.high)
    assert interval == pytest.approx((0.0615, 0.7923), abs=1e-4)
    assert (of_g.intent, of_g.support, of_g.exact_match.value) == ("g", 1, 1.0)


def test_intervals_are_of_the_counts() -> None:
    report = score({"1": "f()", "2": "g()"}, {"1": "f()", "2": "f()"})
    low, high = report.intent_accuracy.low, report.intent_accuracy.high
    # Wilson 95 % of 1/2, symmetric about one half
    assert (low, high) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert report.parse_rate == Measure(
        value=1.0, low=report.parse_rate.low, high=1.0, successes=2, total=2
    )


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("f(a)", "f(a)", (True, True, True, None)),
        ("a();b(x)", "a();b(x)", (True, True, True, None)),
        ("a();b(x)", "b(x);a()", (True, True, False, "wrong_order")),
        ("a();b(x)", "a()", (False, False, False, "missing_call")),
        ("a();a()", "a()", (False, False, False, "missing_call")),
        ("a()", "a();b(x)", (False, False, False, "extra_call")),
        ("a()", "b()", (False, False, False, "wrong_intent")),
        ("a();b()", "a();c()", (False, False, False, "wrong_intent")),
        ("transfer(A,B)", "transfer(B,A)", (True, False, False, "wrong_order")),
        ("f(a,a)", "f(a)", (True, False, False, "missing_value")),
        ("f(a)", "f(a,a)", (True, False, False, "extra_value")),
        ("f(a)", "f(b)", (True, False, False, "wrong_value")),
        ("f(a,b);f(c,d)", "f(a,c);f(b,d)", (True, False, False, "wrong_order")),
        ("f(a);g(b)", "f(b);g(a)", (True, False, False, "wrong_value")),
        ("f(x=a,y=b)", "f(y=b,x=a)", (True, True, True, None)),
        ("f(x=a,y=b)", "f(x=b,y=a)", (True, False, False, "wrong_order")),
        ("f(x=a)", "f(y=a)", (True, False, False, "wrong_value")),
        ("f(x=a,x=a)", "f(x=a)", (True, False, False, "missing_value")),
        ("f(x=a)", "f(a)", (True, False, False, "wrong_value")),
        ("play(Hello (Live))", "play(Hello (Remix))", (True, False, False, "wrong_value")),
        ("weather_search(Hangzhou)", "weather_search (Hangzhou)", (True, True, True, None)),
        ("weather_search(杭州)", "weather_search（杭州）", (True, True, True, None)),
        ("转账(张三,一百)", "转账（张三，一百）", (True, True, True, None)),
        ("转账(张三,一百)", "转账(一百,张三)", (True, False, False, "wrong_order")),
        ("music_exit()", "music_exit", (False, False, False, "malformed")),
        ("weather_search(杭州)", "weather_search(杭州", (False, False, False, "malformed")),
        ("f(a)", "", (False, False, False, "malformed")),
    ],
)
def test_one_pair(gold: str, answer: str, expected: tuple[bool, bool, bool, str | None]) -> None:
    assert score_one(gold, answer) == expected


def test_an_error_is_wrong_whatever_its_text() -> None:
    golds = {"1": "f(a)", "2": "f(a)", "3": "f(a)"}
    predictions = [
        Prediction(example_id="1", text="", error="timed out after 120 s"),
        Prediction(example_id="2", text="f(a", error="column 4: expected ')'"),
        Prediction(example_id="3", text="f(a)", error="stopped at max_new_tokens"),
    ]
    report = evaluate(examples_of(golds), predictions)
    assert report.exact_match.successes == report.parse_rate.successes == 0
    assert report.num_examples == report.exact_match.total == 3
    assert [f.reason for f in report.failures] == ["missing_prediction", "malformed", "malformed"]
    assert report.slots.f1 == 0.0


def test_no_slot_expected_and_none_found_is_no_slot_wrong() -> None:
    assert score({"1": "f()"}, {"1": "g()"}).slots.f1 == 1.0
    assert score({"1": "f()"}, {"1": "f(a)"}).slots.f1 == 0.0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("a(x)", "\u200ba(x\u2060)"),
        ("\ufeffa(x)", "a(x)"),
        ("a(x\u00ad)", "a\u200b(x)"),
        (r'a("x\u200by")', "a(xy)"),
        ("a(❤️)", "a(❤)"),
        ("out_of_scope()", "out_of\u200b_scope()"),
    ],
)
def test_what_prints_alike_is_right(gold: str, answer: str) -> None:
    assert score_one(gold, answer) == (True, True, True, None)
    report = evaluate(examples_of({"x": gold}), [read_answer("x", answer)])
    assert report.exact_match.successes == 1


def test_latency_is_nearest_rank_of_those_measured() -> None:
    golds = {str(n): "f()" for n in range(1, 21)}
    predictions = [
        Prediction(example_id=i, text="f()", latency_ms=float(i)) for i in reversed(golds)
    ]
    predictions[0] = Prediction(example_id="20", text="", error="timed out", latency_ms=20)
    predictions[1] = Prediction(example_id="19", text="f()", latency_ms=19, first_token_ms=3)
    predictions[2] = Prediction(example_id="18", text="f()", latency_ms=18, first_token_ms=5)
    report = evaluate(examples_of(golds), predictions, seconds=9.5)
    # ranks ceil(20 * 0.50) = 10, ceil(20 * 0.95) = 19, ceil(20 * 0.99) = 20; 19 of 20 answered
    assert report.latency == Latency(
        p50_ms=10,
        p95_ms=19,
        p99_ms=20,
        first_token_p50_ms=3,
        first_token_p95_ms=5,
        utterances_per_second=2.0,
    )
    assert score({"1": "f()"}, {"1": "f()"}).latency is None


def test_lineage_travels_and_the_report_survives_json() -> None:
    report = evaluate(
        examples_of({"1": "f(杭州)"}),
        [Prediction(example_id="1", text="g()")],
        artifact_digest="abc",
        test_fingerprint="def",
    )
    assert (report.artifact_digest, report.test_fingerprint) == ("abc", "def")
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    ("example_ids", "prediction_ids", "message"),
    [
        ([], [], "no examples"),
        (["1"], ["1", "ghost"], "unknown example: 'ghost'"),
        (["1"], ["1", "1"], "more than one prediction for example: '1'"),
        (["1", "1"], ["1"], "duplicate example ids: '1'"),
        (["1"], [f"g{n}" for n in range(7)], "'g4' and 2 more"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    example_ids: list[str], prediction_ids: list[str], message: str
) -> None:
    examples = [Example(id=i, instruction="say", output="f()") for i in example_ids]
    predictions = [Prediction(example_id=i, text="f()") for i in prediction_ids]
    with pytest.raises(DataError, match=message):
        evaluate(examples, predictions)


def test_a_gold_that_does_not_parse_is_named() -> None:
    with pytest.raises(DataError, match=r"example 'bad': the label 'f\(a'"):
        score({"good": "f()", "bad": "f(a"}, {})


def test_slots_are_right_in_matched_calls_only() -> None:
    # a(1,2) is matched with a(1,4), and a(3,4) with a(3,2): 2 slots of 4, not all 4
    report = score({"1": "a(1,2);a(3,4)"}, {"1": "a(1,4);a(3,2)"})
    assert (report.slots.precision, report.slots.recall, report.slots.f1) == (0.5, 0.5, 0.5)
    assert report.outcomes.slot_hits == (2,)


def test_precision_and_recall_by_hand() -> None:
    # expected 3, found 1, hits 1
    slots = score({"1": "f(a,b)", "2": "g(c)"}, {"1": "f(a)"}).slots
    assert (slots.precision, slots.recall, slots.f1) == (1.0, pytest.approx(1 / 3), 0.5)
    nothing_found = score({"1": "f(a)"}, {"1": "f()"}).slots
    assert (nothing_found.precision, nothing_found.recall, nothing_found.f1) == (0, 0, 0)


def test_confusion_by_hand() -> None:
    golds = {
        "1": "查天气(杭州);关灯()",
        "2": "查天气(北京)",
        "3": "f()",
        "4": "f();g()",
        "5": "f()",
    }
    answers = {"1": "关灯();播放()", "2": "查天气(上海)", "3": "f();g()", "4": "g()", "5": "f("}
    cells = {(c.expected, c.predicted): c.count for c in score(golds, answers).confusion}
    assert cells == {
        ("关灯", "关灯"): 1,
        ("查天气", "播放"): 1,
        ("查天气", "查天气"): 1,
        ("f", "f"): 1,
        (None, "g"): 1,
        ("f", None): 2,
        ("g", "g"): 1,
    }
    assert score(golds, answers).confusion[0] == ConfusionCell(
        expected="f", predicted=None, count=2
    )


@given(st.permutations(range(6)))
def test_the_order_of_predictions_changes_nothing(order: list[int]) -> None:
    golds = {
        "0": "f(a)",
        "1": "f(b);g()",
        "2": "g()",
        "3": "f(三)",
        "4": "h()",
        "5": "out_of_scope()",
    }
    texts = ["f(a)", "g();f(b)", "f(", "f(3)", "h()", "g()"]
    predictions = [
        Prediction(example_id=str(n), text=text, confidence=n / 10, latency_ms=n * 1.5)
        for n, text in enumerate(texts)
    ]
    shuffled = [predictions[n] for n in order]
    examples = examples_of(golds)
    assert evaluate(examples, shuffled, threshold=0.15) == evaluate(
        examples, predictions, threshold=0.15
    )
