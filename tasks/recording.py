"""The task that writes a pipeline run's whole story into MLflow."""

import tempfile
from pathlib import Path

from prefect import runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from pydantic import BaseModel, ConfigDict

from intent_core.artifacts import ModelArtifact
from intent_core.config import PipelineConfig, fingerprint
from intent_core.dataset import DatasetManifest
from intent_core.evaluation import EvaluationReport
from intent_core.gate import GateDecision, render_decision
from intent_core.training.job import RESULT_FILE, TrainingResult
from tasks.evaluation import PREDICTIONS_FILE, evaluation_prefix
from tasks.model_server import fetch_model
from tasks.registry import register_candidate
from tasks.retries import retry_delays, worth_a_retry
from tasks.settings import Settings, get_settings
from tasks.steps import get_store
from tasks.storage import ObjectStore
from tasks.tracking import (
    ensure_experiment,
    find_open_run,
    find_run,
    finish_run,
    log_run,
    make_client,
    open_run,
    run_url,
    translated,
)
from tasks.training import training_prefix


class RecordedRun(BaseModel):
    """Where a reviewer finds the run, and the model's version in the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    url: str
    version: str


@task(
    retries=len(retry_delays()),
    retry_delay_seconds=retry_delays(),
    retry_condition_fn=worth_a_retry,
    task_run_name="record {artifact.name}",
)
def record_run(
    config: PipelineConfig,
    dataset: DatasetManifest,
    artifact: ModelArtifact,
    report: EvaluationReport,
    decision: GateDecision,
) -> RecordedRun:
    """One MLflow run per outcome: done again after a failure it adds what was missing."""
    settings = get_settings()
    store = get_store(settings)
    key = fingerprint(config, dataset.fingerprint, artifact.digest, decision)
    with translated(settings.mlflow_tracking_url):
        client = make_client(settings)
        experiment = ensure_experiment(client, config.project)
        run_id = find_run(client, experiment, key)
        if run_id is None:
            training = training_prefix(dataset, config.train)
            run_id = find_open_run(client, experiment, training) or open_run(
                client, experiment, config.project, training
            )
            with tempfile.TemporaryDirectory() as folder:
                gather_documents(store, config, dataset, artifact, Path(folder))
                log_run(
                    client,
                    run_id,
                    key=key,
                    config=config,
                    dataset=dataset,
                    artifact=artifact,
                    training=read_training_result(store, config, dataset),
                    report=report,
                    decision=decision,
                    tags={"intent.prefect_run": prefect_run_url(settings)},
                    files=Path(folder),
                )
            finish_run(client, run_id)
        folder_of_model = fetch_model(settings, artifact)
        version = register_candidate(client, config.project, run_id, artifact, folder_of_model)
    url = run_url(settings, experiment, run_id)
    publish(url, settings, decision)
    return RecordedRun(run_id=run_id, url=url, version=version)


def gather_documents(
    store: ObjectStore,
    config: PipelineConfig,
    dataset: DatasetManifest,
    artifact: ModelArtifact,
    folder: Path,
) -> None:
    """The dataset's manifest, what was rejected and why, and the model's answers."""
    prefix = evaluation_prefix(artifact, dataset, config.evaluate, config.serve)
    splits = {split.file for split in dataset.splits.values()}
    for found in store.list(f"{dataset.uri}/"):
        name = found.key.rpartition("/")[2]
        if name not in splits:
            store.download(found.key, folder / name)
    store.download(f"{prefix}/{PREDICTIONS_FILE}", folder / PREDICTIONS_FILE)


def read_training_result(
    store: ObjectStore, config: PipelineConfig, dataset: DatasetManifest
) -> TrainingResult:
    key = f"{training_prefix(dataset, config.train)}/{RESULT_FILE}"
    return TrainingResult.model_validate_json(store.read(key))


def prefect_run_url(settings: Settings) -> str:
    return f"{settings.prefect_ui_url}/runs/flow-run/{runtime.flow_run.id}"


def publish(url: str, settings: Settings, decision: GateDecision) -> None:
    """The verdict and the links on the Prefect run's page."""
    create_markdown_artifact(render_decision(decision), key="gate-verdict")
    create_link_artifact(url, link_text="MLflow run", key="mlflow-run")
    create_link_artifact(settings.endpoint, link_text="Endpoint", key="endpoint")
