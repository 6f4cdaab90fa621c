"""Judged runs in a store, as a pipeline run leaves them, with reports made by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from intent_core.evaluation.prediction import PREDICTIONS_FILE, Prediction
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decide import decide
from intent_core.models.artifact import (
    MANIFEST_FILE,
    ModelArtifact,
    content_name,
    digest_folder,
)
from intent_core.recipe.config import PipelineConfig
from intent_core.training.protocol import RESULT_FILE, TrainingResult
from tasks.settings import Settings
from tasks.storage.layout import TRAININGS, evaluation_prefix
from tasks.storage.objects import upload_folder
from tasks.storage.step_results import get_store, require_finished, write_finished
from tasks.tracking.record import RunRecord
from tests.support.builders.reviews import answers, review, rows

GATE = {"min_intent_accuracy": 0.5, "min_parameter_accuracy": 0.5, "min_test_examples": 1}
EXAMPLES = rows(*((f"play song {i}", f"play_music(song {i})") for i in range(100)))


def judge(
    settings: Settings,
    folder: Path,
    project: str,
    *,
    seed: int = 0,
    wrong: int = 3,
    champion: RunRecord | None = None,
    gate: Mapping[str, object] | None = None,
    train: Mapping[str, object] | None = None,
) -> RunRecord:
    """Store a model that answers `wrong` of 100 utterances wrongly, and judge it.

    `gate` and `train` are changes of these sections of the recipe.
    """
    config = PipelineConfig.model_validate(
        {"project": project, "gate": GATE | dict(gate or {}), "train": dict(train or {})}
    )
    mistakes = {i: "play_music(lost)" if i % 4 else "stop_music()" for i in range(wrong)}
    answered = answers(EXAMPLES, mistakes)
    made = review(EXAMPLES, answered)
    artifact = _store_model(settings, folder, made.artifact, seed)
    report = made.report.model_copy(update={"artifact_digest": artifact.digest})
    record = RunRecord(
        config=config,
        dataset=made.dataset,
        artifact=artifact,
        decision=made.decision,
        champion_report=None,
        prefect_run="http://prefect.test/runs/1",
        commit="c0ffee",
        origin={"mlflow.source.name": "intent-pipeline", "mlflow.user": "ling"},
    )
    _store_report(settings, record, report, answered)
    return _decide(settings, record, report, champion)


def _store_model(settings: Settings, folder: Path, like: ModelArtifact, seed: int) -> ModelArtifact:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.txt").write_text(f"seed {seed}", encoding="utf-8")
    digest = digest_folder(folder)
    name = content_name(digest)
    artifact = like.model_copy(
        update={
            "name": name,
            "digest": digest,
            "uri": f"models/{name}",
            "train_fingerprint": f"{seed:016x}",
        }
    )
    (folder / MANIFEST_FILE).write_text(artifact.model_dump_json(), encoding="utf-8")
    store = get_store(settings)
    upload_folder(store, folder, artifact.uri)
    result = TrainingResult(
        status="finished",
        base_model=artifact.base_model,
        base_model_digest=artifact.base_model_digest,
        steps=3,
        num_examples=800,
        samples_per_step=8,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_devices=1,
        packed=False,
        seq_length=128,
        train_loss=0.5,
        validation_loss=None,
        device="cpu",
        dtype="float32",
        versions={},
        seconds=12.0,
        samples_per_second=66.0,
        losses=[(1, 2.0), (2, 1.0), (3, 0.5)],
    )
    key = TRAININGS.key(artifact.train_fingerprint, RESULT_FILE)
    store.put(key, result.model_dump_json().encode())
    return artifact


def _store_report(
    settings: Settings,
    record: RunRecord,
    report: EvaluationReport,
    answered: Sequence[Prediction],
) -> None:
    store, dataset = get_store(settings), record.dataset
    store.put(f"{dataset.uri}/{dataset.splits['test'].file}", _to_lines(EXAMPLES))
    write_finished(store, dataset.uri, dataset)
    prefix = _report_prefix(record)
    store.put(f"{prefix}/{PREDICTIONS_FILE}", _to_lines(answered))
    write_finished(store, prefix, report)


def _decide(
    settings: Settings, record: RunRecord, report: EvaluationReport, champion: RunRecord | None
) -> RunRecord:
    is_champion = champion is not None and champion.artifact.digest == record.artifact.digest
    prefix = _report_prefix(champion) if champion and not is_champion else None
    theirs = require_finished(get_store(settings), prefix, EvaluationReport) if prefix else None
    decision = decide(report, theirs, record.config.gate, is_champion=is_champion)
    return record.model_copy(update={"decision": decision, "champion_report": prefix})


def _report_prefix(record: RunRecord) -> str:
    config = record.config
    return evaluation_prefix(record.artifact, record.dataset, config.evaluate, config.serve)


def _to_lines(rows: Sequence[BaseModel]) -> bytes:
    return "".join(f"{row.model_dump_json()}\n" for row in rows).encode()
