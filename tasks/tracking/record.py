"""Tasks that record a pipeline run in MLflow, or queue the record while MLflow is unavailable."""

import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

from prefect import runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.datasets.manifest import DatasetManifest
from intent_core.datasets.provenance import ORIGINS_FOLDER
from intent_core.errors import ConfigError
from intent_core.evaluation.prediction import PREDICTIONS_FILE, read_complete_predictions
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decision import GateDecision
from intent_core.gate.render import render_decision
from intent_core.language.vocabulary import Vocabulary
from intent_core.language.vocabulary_copy import COPY_FILE
from intent_core.models.artifact import ModelArtifact, content_name
from intent_core.recipe.config import PipelineConfig, fingerprint
from intent_core.reporting.figures import draw_figures
from intent_core.reporting.page import render_review
from intent_core.reporting.review import Review
from intent_core.training.protocol import RESULT_FILE, TOO_LONG_FILE, TrainingResult
from tasks.models.local_cache import fetch_model
from tasks.orchestration.retries import retried_task
from tasks.orchestration.run_hooks import label_with_runs
from tasks.orchestration.run_liveness import current_root_run
from tasks.settings import Settings, get_settings
from tasks.settings.children import child_environment
from tasks.storage.layout import MODELS, TRAININGS, UNRECORDED, evaluation_prefix
from tasks.storage.objects import MissingObjectError, ObjectStore
from tasks.storage.step_results import get_store, read_examples, require_finished
from tasks.tracking.experiments import ensure_experiment, runs_url
from tasks.tracking.logged_models import note_judged
from tasks.tracking.registry import describe_version, name_champion, register_candidate
from tasks.tracking.runs import (
    final_metrics,
    find_open_run,
    find_run,
    finish_run,
    log_run,
    log_tables,
    log_verdict,
    make_client,
    mlflow_errors,
    name_dataset,
    open_run,
    run_url,
)

logger = logging.getLogger(__name__)


class RunRecord(BaseModel):
    """The outcome of a pipeline run, by reference; sufficient to record the run later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: PipelineConfig
    dataset: DatasetManifest
    artifact: ModelArtifact
    decision: GateDecision
    champion_report: str | None
    """Prefix in the store of the champion's report on the same test split."""
    prefect_run: str
    commit: str = ""
    """Commit of the code that ran."""
    origin: dict[str, str] = {}
    """MLflow's tags of who ran what."""

    @property
    def key(self) -> str:
        """Identifies the outcome.

        Manual approval does not change it, nor that the model itself is served meanwhile.
        """
        changed: dict[str, object] = {"approval": None, "reason": "", "promote": False}
        if self.decision.is_champion:
            changed["champion_digest"] = None
        decided = self.decision.model_copy(update=changed)
        return fingerprint(self.config, self.dataset.fingerprint, self.artifact.digest, decided)


class RecordedRun(BaseModel):
    """A recorded MLflow run, and the model's version in the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    url: str
    version: str
    runs_url: str = ""
    """The table of all runs of the project."""


@retried_task("record {record.artifact.name}")
def record_run(record: RunRecord) -> RecordedRun:
    """Record a pipeline run in MLflow, one MLflow run per outcome.

    A retry after a failure completes the record.
    """
    settings = get_settings()
    recorded = write_record(settings, record)
    publish(recorded, settings, record)
    return recorded


@retried_task()
def record_verdict(record: RunRecord, recorded: RecordedRun) -> None:
    """Replace the pending verdict with the answer to the manual approval."""
    settings = get_settings()
    with mlflow_errors(settings.mlflow_tracking_url):
        client = make_client(settings)
        with tempfile.TemporaryDirectory() as folder:
            review = gather_review(get_store(settings), record, {"MLflow run": recorded.url})
            write_documents(review, Path(folder))
            log_verdict(client, recorded.run_id, record.decision, review.report, Path(folder))
        describe_version(client, record.config.project, recorded.version, review)
    publish(recorded, settings, record)


@task
def queue_record(record: RunRecord, error: str) -> None:
    """Queue a record until MLflow is available."""
    store = get_store(get_settings())
    store.put(UNRECORDED.key(f"{record.key}.json"), record.model_dump_json().encode())
    logger.warning(
        "could not record the run in MLflow; the next run or `intent record` retries it: %s", error
    )


def write_record(settings: Settings, record: RunRecord) -> RecordedRun:
    """Create or complete the MLflow run and the model version.

    Raises `TrackingError` if MLflow fails.
    """
    store = get_store(settings)
    config, dataset, artifact = record.config, record.dataset, record.artifact
    with mlflow_errors(settings.mlflow_tracking_url):
        client = make_client(settings)
        experiment = ensure_experiment(client, config.project)
        run_id = find_run(client, experiment, record.key)
        is_new = run_id is None
        if run_id is None:
            training = TRAININGS.key(artifact.train_fingerprint)
            flow_run = current_root_run()
            run_id = find_open_run(client, experiment, training, flow_run) or open_run(
                client, experiment, config.project, training, flow_run
            )
        url = run_url(settings, experiment, run_id)
        review = gather_review(store, record, {"MLflow run": url})
        if is_new:
            tags = {
                "intent.prefect_run": record.prefect_run,
                "intent.champion": name_champion(client, config.project, review),
                **record.origin,
            }
            if record.commit:
                tags["mlflow.source.git.commit"] = record.commit
            log_run(
                client,
                run_id,
                key=record.key,
                config=config,
                dataset=dataset,
                artifact=artifact,
                training=read_training_result(store, artifact),
                report=review.report,
                tags=tags,
            )
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                gather_dataset(store, dataset, folder)
                gather_long_samples(store, artifact, folder)
                client.log_artifacts(run_id, name, "dataset")
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                prefix = evaluation_prefix(artifact, dataset, config.evaluate, config.serve)
                answers = folder / PREDICTIONS_FILE
                store.download(f"{prefix}/{PREDICTIONS_FILE}", answers)
                log_tables(client, run_id, review.report, read_complete_predictions(answers))
                write_documents(review, folder)
                log_verdict(client, run_id, record.decision, review.report, folder)
            finish_run(client, run_id)
        weights = choose_weights(settings, artifact)
        version = register_candidate(client, config.project, run_id, artifact, weights)
        describe_version(client, config.project, version, review)
        metrics = final_metrics(review.report, read_training_result(store, artifact))
        note_judged(client, run_id, artifact, metrics, name_dataset(dataset))
    return RecordedRun(
        run_id=run_id, url=url, version=version, runs_url=runs_url(settings, experiment)
    )


def choose_weights(settings: Settings, artifact: ModelArtifact) -> Path | str:
    """Return what the registry stores of a model: its files, or their URI in the store."""
    if settings.mlflow_weights == "copy":
        return fetch_model(settings, artifact)
    if get_store(settings).can_be_named():
        return f"{settings.store_uri}/{artifact.uri}"
    raise ConfigError("INTENT_MLFLOW_WEIGHTS=store requires an INTENT_STORE on s3:// or oss://")


def gather_review(store: ObjectStore, record: RunRecord, links: dict[str, str]) -> Review:
    """Load the content of the report page from the store."""
    config, dataset, artifact = record.config, record.dataset, record.artifact
    prefix = evaluation_prefix(artifact, dataset, config.evaluate, config.serve)
    champion = record.champion_report
    training = read_training_result(store, artifact)
    return Review(
        report=require_finished(store, prefix, EvaluationReport),
        champion=require_finished(store, champion, EvaluationReport) if champion else None,
        decision=record.decision,
        dataset=dataset,
        artifact=artifact,
        config=config,
        losses=training.losses,
        validations=training.validations,
        links={**links, "Prefect run": record.prefect_run},
        utterances={e.id: e for e in read_examples(store, dataset, "test")},
        vocabulary=read_vocabulary_of(store, artifact.digest),
        champion_vocabulary=(
            None
            if record.decision.is_champion
            else read_vocabulary_of(store, record.decision.champion_digest)
        ),
    )


def read_vocabulary_of(store: ObjectStore, digest: str | None) -> Vocabulary | None:
    """Return the vocabulary of a model; None without a model, or if it is not known."""
    if digest is None:
        return None
    try:
        copy = store.read(MODELS.key(content_name(digest), COPY_FILE))
        return Vocabulary.model_validate_json(copy)
    except (MissingObjectError, ValidationError):
        return None  # a model of an earlier or a later version, or removed


def write_documents(review: Review, folder: Path) -> None:
    """Write the report page, the report, the verdict and the figures as files."""
    texts = {
        "report.html": render_review(review),
        "report.json": review.report.model_dump_json(indent=1),
        "decision.json": review.decision.model_dump_json(indent=1),
        "decision.md": render_decision(review.decision, review.report.failures),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    for name, picture in draw_figures(review).items():
        (folder / "figures" / name).write_bytes(picture)


def gather_dataset(store: ObjectStore, dataset: DatasetManifest, folder: Path) -> None:
    """Download the dataset's manifest, rejected rows with reasons, and the data check."""
    splits = {split.file for split in dataset.splits.values()}
    for entry in store.list(f"{dataset.uri}/"):
        name = entry.key.removeprefix(f"{dataset.uri}/")
        # Origins have a line per row: too large for MLflow, and `intent trace` reads the store.
        if name not in splits and not name.startswith(f"{ORIGINS_FOLDER}/"):
            store.download(entry.key, folder / name)


def gather_long_samples(store: ObjectStore, artifact: ModelArtifact, folder: Path) -> None:
    """Download the samples that were too long to be trained, if there are any."""
    if read_training_result(store, artifact).num_too_long:
        key = TRAININGS.key(artifact.train_fingerprint, TOO_LONG_FILE)
        store.download(key, folder / TOO_LONG_FILE)


def read_training_result(store: ObjectStore, artifact: ModelArtifact) -> TrainingResult:
    key = TRAININGS.key(artifact.train_fingerprint, RESULT_FILE)
    return TrainingResult.model_validate_json(store.read(key))


def code_commit(settings: Settings) -> str:
    """Return the commit of this code: from the image's settings, else from git; "" if unknown."""
    if settings.commit or shutil.which("git") is None:
        return settings.commit
    here = Path(__file__).parent
    answer = subprocess.run(
        ["git", "-C", str(here), "rev-parse", "HEAD"],
        env=child_environment("git"),
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


def prefect_run_url(settings: Settings) -> str:
    return f"{settings.prefect_ui_url}/runs/flow-run/{runtime.flow_run.id}"


def publish(recorded: RecordedRun, settings: Settings, record: RunRecord) -> None:
    """Publish links as artifacts of the Prefect run, and as a label for its notifications."""
    label_with_runs(recorded.runs_url)
    create_link_artifact(
        recorded.url,
        link_text="MLflow run",
        key="mlflow-run",
        description="Report, figures, tables and files of this run.",
    )
    create_link_artifact(
        recorded.runs_url,
        link_text="All runs in MLflow",
        key="mlflow-runs",
        description=f"Verdicts and accuracies of the runs of {record.config.project}.",
    )
    create_link_artifact(
        settings.endpoint,
        link_text="Endpoint",
        key="endpoint",
        description="Base URL of the served model, for clients of the OpenAI API.",
    )


def publish_verdict(record: RunRecord, recorded: RecordedRun | None) -> None:
    """Publish the verdict with the utterances of its failed checks.

    Called by a flow, not by a task: the run's page lists the artifacts of tasks below.
    """
    config, dataset = record.config, record.dataset
    prefix = evaluation_prefix(record.artifact, dataset, config.evaluate, config.serve)
    report = require_finished(get_store(get_settings()), prefix, EvaluationReport)
    all_runs = f" [Verdicts of all runs]({recorded.runs_url})" if recorded else ""
    create_markdown_artifact(
        render_decision(record.decision, report.failures),
        key="gate-verdict",
        description="The gate's decision, its checks, and the utterances that made a check fail."
        + all_runs,
    )
