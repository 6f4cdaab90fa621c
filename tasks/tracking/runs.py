"""MLflow runs: one per pipeline run, opened by the training, completed after the gate's verdict."""

import contextlib
import getpass
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import requests

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import LoginRefusedError, TrackingError
from intent_core.evaluation.metrics import METRICS
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import EvaluationReport, IntentScore, Measure, SliceScore
from intent_core.gate.decision import GateDecision
from intent_core.markdown import escape_markdown
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.listing import list_settings
from intent_core.training.protocol import TrainingResult
from tasks.settings import Settings

if TYPE_CHECKING:  # importing mlflow takes seconds; a rollback must not wait for it
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

logger = logging.getLogger(__name__)

KEY_TAG = "intent.key"
TRAINING_TAG = "intent.training"
FLOW_RUN_TAG = "intent.flow_run"
VERDICT_TAG = "intent.verdict"
PROMOTE = "promote"
"""The verdict of an accepted model."""
TRAINING_PAGES = "workflowType=machine_learning"
"""Query of MLflow's pages for models; without it, they open on traces of applications."""
_CURVES = ("train_loss", "validation_loss", "validation_exact_match")
_LONGEST_PARAMETER = 6000
"""MLflow's own limit."""
_LONGEST_TAG = 1000
MOST_ROWS = 20_000
"""Maximum rows of a table, because MLflow's UI loads whole tables. The files are complete."""


@contextlib.contextmanager
def mlflow_errors(url: str) -> Iterator[None]:
    """Convert failures of MLflow to `TrackingError` with the server's URL.

    Raises `LoginRefusedError` if it refuses the login.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        first = str(error).splitlines()[0][:300]
        if _read_status(error) in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise LoginRefusedError(
                f"MLflow at {url} refused our login: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to those of a user who may "
                f"write: {first}"
            ) from error
        raise TrackingError(f"MLflow at {url} failed: {first}") from error


def _read_status(error: Exception) -> int | None:
    """Return the HTTP status of MLflow's answer; None if there was no answer."""
    response = getattr(error, "response", None)
    if response is not None:
        status: int = response.status_code
        return status
    read = getattr(error, "get_http_status_code", None)
    return read() if read else None


def require_tracking_login(settings: Settings) -> None:
    """Raise `LoginRefusedError` if another MLflow than the embedded one refuses our login.

    Called before the training; a server that is down is not waited for: the record is queued.
    """
    if not settings.mlflow_url:
        return
    try:
        with mlflow_errors(settings.mlflow_tracking_url):
            make_client(settings).search_experiments(max_results=1)
    except LoginRefusedError:
        raise
    except TrackingError as error:
        logger.warning("%s", error)


def make_client(settings: Settings) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_tracking_url)


def run_url(settings: Settings, experiment_id: str, run_id: str) -> str:
    return f"{settings.mlflow_tracking_url}/#{_run_path(experiment_id, run_id)}?{TRAINING_PAGES}"


def _run_path(experiment_id: str, run_id: str) -> str:
    return f"/experiments/{experiment_id}/runs/{run_id}"


def find_run(client: "MlflowClient", experiment_id: str, key: str) -> str | None:
    """Return the finished run of that key, so that a resumed pipeline does not log it again."""
    finished = None
    for run in client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'"):
        if run.info.status == "FINISHED":
            finished = run.info.run_id
        else:
            # Partly logged by a failed attempt; a reviewer should see one complete run.
            client.delete_run(run.info.run_id)
    return finished


def open_run(
    client: "MlflowClient", experiment_id: str, name: str, training: str, flow_run: str = ""
) -> str:
    """Open a run for a new training, or for an outcome that reuses the training of another run.

    `flow_run` is the id of the Prefect run; once that has ended, the MLflow run is abandoned.
    """
    tags = {TRAINING_TAG: training, **name_origin()}
    if flow_run:
        tags[FLOW_RUN_TAG] = flow_run
    run = client.create_run(experiment_id, run_name=name, tags=tags)
    identity: str = run.info.run_id
    return identity


def find_open_run(
    client: "MlflowClient", experiment_id: str, training: str, flow_run: str = ""
) -> str | None:
    """Return the run of a training that has no outcome yet, or None.

    A stopped run is reopened and assigned to `flow_run`.
    """
    run_id: str | None = None
    for run in client.search_runs([experiment_id], f"tags.`{TRAINING_TAG}` = '{training}'"):
        if run.info.status in ("RUNNING", "KILLED") and KEY_TAG not in run.data.tags:
            if run_id is None:
                run_id = run.info.run_id
                client.update_run(run_id, status="RUNNING")
                if flow_run:
                    client.set_tag(run_id, FLOW_RUN_TAG, flow_run)
            elif run.info.status == "RUNNING":
                # A duplicate: the response to its creation was lost and the request repeated.
                client.delete_run(run.info.run_id)
    return run_id


def log_run(
    client: "MlflowClient",
    run_id: str,
    *,
    key: str,
    config: PipelineConfig,
    dataset: DatasetManifest,
    artifact: ModelArtifact,
    training: TrainingResult,
    report: EvaluationReport,
    tags: Mapping[str, str],
) -> None:
    """Log parameters, metrics, missing points of the curves, tags and the dataset."""
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    final = [Metric(k, v, now, 0) for k, v in final_metrics(report, training).items()]
    all_tags = {
        **tags,
        KEY_TAG: key,
        "intent.project": config.project,
        "intent.export": dataset.source,
        "intent.artifact": artifact.name,
        "intent.digest": artifact.digest,
        "intent.dataset_fingerprint": dataset.fingerprint,
    }
    client.log_batch(
        run_id,
        metrics=final + _missing_points(client, run_id, training),
        params=list_parameters(config),
        tags=[RunTag(k, v) for k, v in all_tags.items()],
    )
    _log_dataset(client, run_id, dataset)


def log_verdict(
    client: "MlflowClient",
    run_id: str,
    decision: GateDecision,
    report: EvaluationReport,
    folder: Path,
) -> None:
    """Set the verdict as tags, name and description, and upload the report files in the folder."""
    info = client.get_run(run_id).info
    client.update_run(run_id, name=name_run(info.start_time, decision, report))
    client.set_tag(run_id, VERDICT_TAG, name_verdict(decision))
    client.set_tag(run_id, "intent.reason", decision.reason[:_LONGEST_TAG])
    page = f"{_run_path(info.experiment_id, run_id)}/artifacts/report.html?{TRAINING_PAGES}"
    note = f"[Report](#{page})\n\n{escape_markdown(decision.reason)}"
    client.set_tag(run_id, "mlflow.note.content", note[:_LONGEST_TAG])
    client.log_artifacts(run_id, str(folder))


def name_run(started_ms: int, decision: GateDecision, report: EvaluationReport) -> str:
    """Return the run's start, verdict, and intent and parameter accuracy in percent."""
    started = datetime.fromtimestamp(started_ms / 1000).astimezone()
    return f"{started:%Y-%m-%d %H:%M} {name_verdict(decision)} {name_accuracies(report)}"


def name_accuracies(report: EvaluationReport) -> str:
    """Return intent and parameter accuracy in percent, as `97.0 / 78.0`."""
    measures = report.intent_accuracy, report.parameter_accuracy
    return " / ".join(f"{100 * measure.value:.1f}" for measure in measures)


def name_origin() -> dict[str, str]:
    """Return MLflow's tags of who runs which flow; a user without a name is not named."""
    from prefect import runtime  # takes a second, for which `intent status` need not wait

    flow, deployment = runtime.flow_run.flow_name, runtime.deployment.name
    tags = {
        "mlflow.source.name": f"{flow}/{deployment}" if deployment else flow or "",
        "mlflow.source.type": "JOB" if deployment else "LOCAL",
    }
    with contextlib.suppress(KeyError, OSError):
        tags["mlflow.user"] = getpass.getuser()
    return {name: value for name, value in tags.items() if value}


def log_tables(
    client: "MlflowClient", run_id: str, report: EvaluationReport, predictions: Sequence[Prediction]
) -> None:
    """Log scores by intent and slice, failures and answers as tables for MLflow's UI."""
    tables: dict[str, list[dict[str, Any]]] = {
        "per_intent": [flatten(score) for score in report.per_intent],
        "slices": [flatten(score) for score in report.slices],
        "failures": [failure.model_dump() for failure in report.failures[:MOST_ROWS]],
        "normalised": [
            answer.model_dump() | {"kinds": ", ".join(answer.kinds)}
            for answer in report.normalised[:MOST_ROWS]
        ],
        "predictions": [prediction.model_dump() for prediction in predictions[:MOST_ROWS]],
    }
    with warnings.catch_warnings():
        # pandas warns about MLflow's use of a deprecated interface.
        warnings.simplefilter("ignore")
        for name, rows in tables.items():
            if rows:
                columns = {column: [row[column] for row in rows] for column in rows[0]}
                client.log_table(run_id, columns, f"tables/{name}.json")


def flatten(score: IntentScore | SliceScore) -> dict[str, str | int | float]:
    """Return a table row with rounded rates, without their intervals."""
    return {
        name: round(value.value, 4) if isinstance(value, Measure) else value
        for name, value in score
    }


def name_verdict(decision: GateDecision) -> str:
    """Return the verdict as one word: promote, rejected, dry_run, waits or declined."""
    if decision.promote:
        return PROMOTE
    if not decision.passed:
        return "rejected"
    if decision.awaits_approval:
        return "waits"
    return "dry_run" if decision.mode == "dry_run" else "declined"


def final_metrics(report: EvaluationReport, training: TrainingResult) -> dict[str, float]:
    """Return the metrics of a run: those of the report, its latency, the training speed."""
    final = {
        **{name: report.metrics[name].value for name in METRICS if name in report.metrics},
        "documents_intent_accuracy": report.documents.intent_accuracy,
        "documents_parameter_accuracy": report.documents.parameter_accuracy,
        "train_seconds": training.seconds,
        "train_samples_per_second": training.samples_per_second,
    }
    if report.latency is not None:
        final["latency_p50_ms"] = report.latency.p50_ms
        final["latency_p95_ms"] = report.latency.p95_ms
    return final


def finish_run(client: "MlflowClient", run_id: str) -> None:
    client.set_terminated(run_id, "FINISHED")


def _missing_points(
    client: "MlflowClient", run_id: str, training: TrainingResult
) -> "list[Metric]":
    """Return the points of the curves that were not sent during the training."""
    from mlflow.entities import Metric

    curves = [("train_loss", step, loss) for step, loss in training.losses]
    for step, loss, exact_match in training.validations:
        curves += [
            ("validation_loss", step, loss),
            ("validation_exact_match", step, exact_match),
        ]
    shown = {(m.key, m.step) for name in _CURVES for m in client.get_metric_history(run_id, name)}
    now = int(time.time() * 1000)
    return [
        Metric(name, loss, now, step) for name, step, loss in curves if (name, step) not in shown
    ]


def list_parameters(config: PipelineConfig) -> "list[Param]":
    """Return the recipe flattened: `train.learning_rate`, `gate.min_intent_accuracy`."""
    from mlflow.entities import Param

    flat: dict[str, Any] = {"project": config.project}
    for section, values in list_settings(config).items():
        flat.update({f"{section}.{name}": value for name, value in values.items()})
    return [Param(name, shorten_parameter(str(value))) for name, value in flat.items()]


def shorten_parameter(value: str) -> str:
    """Return the value; one that is too long for MLflow ends with its fingerprint."""
    if len(value) <= _LONGEST_PARAMETER:
        return value
    end = f"… (sha256 {hashlib.sha256(value.encode()).hexdigest()[:16]})"
    return value[: _LONGEST_PARAMETER - len(end)] + end


def name_dataset(dataset: DatasetManifest) -> tuple[str, str]:
    """Return the dataset's name, the last two parts of its export's address, and its digest."""
    return "/".join(PurePosixPath(dataset.source).parts[-2:])[-200:], dataset.fingerprint


def _log_dataset(client: "MlflowClient", run_id: str, dataset: DatasetManifest) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile: dict[str, int] = {
        "records": dataset.num_records,
        "rejections": dataset.num_rejections,
    }
    profile.update({name: split.num_examples for name, split in dataset.splits.items()})
    name, digest = name_dataset(dataset)
    source = {"uri": dataset.source, "sha256": dataset.source_sha256, "dataset": dataset.uri}
    entity = Dataset(
        name=name,
        digest=digest,
        source_type="itag-export",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run_id, [DatasetInput(entity, tags)])
