"""A metric is one entry of a table that gate, MLflow, report page and commands read."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli.model.score import show_report
from intent_core.evaluation.metrics import METRICS, Metric, require_metrics
from intent_core.evaluation.score_files import score_files
from intent_core.gate.decide import decide
from intent_core.reporting.page import render_review
from intent_core.training.protocol import TrainingResult
from tasks.tracking.runs import final_metrics
from tests.support.builders.evaluation_reports import check_of, lenient
from tests.support.builders.reviews import answers, review, rows

FIRST = Metric(
    name="first_intent",
    label="First intent",
    explanation="the first call has the right intent",
    compute=lambda scored: scored.share(
        lambda row: row.answer is not None and row.answer[0].intent == row.gold[0].intent
    ),
    culprits=lambda report: tuple(f.example_id for f in report.failures),
)
TRAINED = TrainingResult.model_validate(
    {
        "status": "finished",
        "base_model": "base",
        "base_model_digest": "0",
        "steps": 1,
        "num_examples": 1,
        "samples_per_step": 1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "num_devices": 1,
        "packed": True,
        "seq_length": 16,
        "seconds": 1.0,
        "samples_per_second": 1.0,
        "train_loss": 1.0,
        "validation_loss": None,
        "device": "cpu",
        "dtype": "float32",
        "versions": {},
        "losses": [(1, 1.0)],
    }
)


def test_a_new_metric_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, FIRST.name, FIRST)
    examples = rows(("play it", "play(x)"), ("stop it", "stop()"))
    wrong = answers(examples, {1: "play(x)"})

    require_metrics(["first_intent"])
    made = review(examples, wrong, answers(examples, {}), lenient(minimums={"first_intent": 0.9}))
    check = check_of(made.decision, "min_first_intent")
    assert (check.value, check.passed, check.utterances) == (0.5, False, ("u1",))
    assert "first_intent" in decide(made.report, None, made.config.gate).reason

    assert final_metrics(made.report, TRAINED)["first_intent"] == 0.5

    page = render_review(made)
    assert FIRST.label in page
    assert FIRST.explanation in page

    gold, given = tmp_path / "gold.json", tmp_path / "answers.json"
    gold.write_text(json.dumps([e.model_dump() for e in examples]))
    given.write_text(
        json.dumps(
            [
                {"instruction": "play it", "output": "play(x)"},
                {"instruction": "stop it", "output": "play(x)"},
            ]
        )
    )
    scored = score_files(gold, given)
    assert scored["first_intent"] == 0.5
    shown = io.StringIO()
    show_report(Console(file=shown, width=120), scored)
    assert "first_intent" in shown.getvalue()


def test_mlflow_has_the_metrics_by_the_names_it_always_had() -> None:
    examples = rows(("play it", "play(x)"), ("hm", "out_of_scope()"))
    report = review(examples, answers(examples, {})).report
    assert set(final_metrics(report, TRAINED)) >= {
        "intent_accuracy",
        "parameter_accuracy",
        "exact_match",
        "parse_rate",
        "slot_f1",
        "out_of_scope_recall",
        "out_of_scope_precision",
        "documents_intent_accuracy",
        "documents_parameter_accuracy",
        "train_seconds",
        "train_samples_per_second",
        "latency_p50_ms",
        "latency_p95_ms",
    }
