from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.metrics import METRICS
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import RATES, EvaluationReport, Measure
from intent_core.recipe.config import (
    EvaluateConfig,
    GateConfig,
    PipelineConfig,
    ServeConfig,
    TrainConfig,
    fingerprint,
)
from tests.support.builders.reviews import answers, rows


def measured() -> EvaluationReport:
    examples = rows(
        ("play", "play(x,y)"), ("stop", "stop()"), ("hm", "out_of_scope()"), ("go", "go(a)")
    )
    wrong = {0: "play(x,z)", 1: "sing()", 3: "go("}
    known = {"play", "stop", "go", "out_of_scope"}
    return evaluate(examples, answers(examples, wrong), known_intents=known)


def test_a_report_has_every_metric_that_its_test_defines() -> None:
    metrics = measured().metrics
    assert list(metrics) == list(METRICS)
    assert {name: metric.value for name, metric in metrics.items()} == {
        "intent_accuracy": 2 / 4,
        "parameter_accuracy": 1 / 4,
        "exact_match": 1 / 4,
        "slot_f1": 2 * 1 / (3 + 2),  # of x, y and a, x was answered, and z
        "parse_rate": 3 / 4,
        "out_of_scope_recall": 1.0,
        "out_of_scope_precision": 1.0,
        "unknown_intent_rate": 1 / 4,
    }
    examples = rows(("play", "play(x)"))
    bare = evaluate(examples, [Prediction(example_id="u0", text="play(x)")]).metrics
    undefined = {"out_of_scope_recall", "out_of_scope_precision", "unknown_intent_rate"}
    assert set(METRICS) - set(bare) == undefined


def test_a_report_from_before_the_map_is_filled_from_its_fields() -> None:
    report = measured()
    before = report.model_dump_json(exclude={"metrics"})
    assert EvaluationReport.model_validate_json(before) == report
    bare = report.model_copy(update={"out_of_scope_recall": None, "unknown_intent_rate": None})
    filled = EvaluationReport.model_validate_json(bare.model_dump_json(exclude={"metrics"}))
    assert set(METRICS) - set(filled.metrics) == {"out_of_scope_recall", "unknown_intent_rate"}


def test_fields_and_map_of_a_report_agree_and_outlive_json() -> None:
    report = EvaluationReport.model_validate_json(measured().model_dump_json())
    assert report == measured()
    for name in RATES:
        assert report.metrics[name] == getattr(report, name)
        assert isinstance(report.metrics[name], Measure)
    assert report.metrics["slot_f1"].value == report.slots.f1


def test_a_recipe_that_did_not_change_finds_what_earlier_versions_finished() -> None:
    """Keys in the object store and of MLflow runs are computed from these values."""
    gate = GateConfig(minimums={"slot_f1": 0.8}, min_test_examples=10)
    assert fingerprint(gate) == "f5115d06c603b196"
    assert fingerprint(PipelineConfig()) == "ed343e9716966750"
    assert fingerprint(TrainConfig()) == "7de00c7c7cdc1f74"
    assert fingerprint(EvaluateConfig()) == "d8b12b88284b0da7"
    assert fingerprint(ServeConfig()) == "de6238075fb8a2c0"
