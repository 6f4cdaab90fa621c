"""Lineage of each model, read from the store without Prefect and MLflow.

A pipeline run writes `lineage/<model>/<outcome>/manifest.json`. A model of an earlier version of
this software has only its own manifest; the rest is then read from MLflow.
"""

import logging
from collections.abc import Iterable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.manifest import DatasetManifest
from intent_core.models.artifact import ModelArtifact
from tasks.settings import Settings
from tasks.storage.layout import DATASETS, LINEAGE, MODELS, TRAININGS
from tasks.storage.objects import ObjectStore
from tasks.storage.step_results import MANIFEST, read_finished, write_finished
from tasks.tracking.record import RecordedRun, RunRecord
from tasks.tracking.runs import make_client, mlflow_errors, name_verdict, run_url

logger = logging.getLogger(__name__)


class RunParameters(BaseModel):
    """The parameters of a pipeline run, as they were given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    export: str = ""
    recipe: str = ""
    overrides: dict[str, Any] = {}


class ModelLineage(BaseModel):
    """The lineage of a model. A field that is "" or empty was not recorded."""

    # Also read by older versions of this software, which have fewer fields.
    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    """Content name."""
    digest: str
    method: str
    base_model: str
    """Includes the commit if it comes from a hub."""
    base_model_digest: str
    dataset: str
    """Fingerprint of the dataset."""
    key: str = ""
    """Identifies the outcome of the run."""
    project: str = ""
    version: str = ""
    """Version in the registry."""
    verdict: str = ""
    mlflow_run: str = ""
    mlflow_url: str = ""
    prefect_run: str = ""
    commit: str = ""
    """Commit of the code."""
    recipe: str = ""
    """As given to the run; `overrides` are the changes that the run made to it."""
    overrides: dict[str, Any] = {}
    config: dict[str, Any] = {}
    """The complete recipe."""
    export: str = ""
    """As given to the run."""
    export_uri: str = ""
    export_sha256: str = ""
    export_etag: str = ""
    export_version: str | None = None
    """The store's version id, if the store keeps versions."""

    @classmethod
    def of_artifact(cls, artifact: ModelArtifact) -> Self:
        """Return the lineage that the model's own manifest contains."""
        return cls(
            model=artifact.name,
            digest=artifact.digest,
            method=artifact.method,
            base_model=artifact.base_model,
            base_model_digest=artifact.base_model_digest,
            dataset=artifact.dataset_fingerprint,
        )

    def with_export(self, dataset: DatasetManifest) -> Self:
        """Return a copy with the export from the dataset's manifest."""
        update = {
            "export_uri": dataset.source,
            "export_sha256": dataset.source_sha256,
            "export_etag": dataset.source_etag,
            "export_version": dataset.source_version,
        }
        return self.model_copy(update=update)

    def with_run(self, recorded: RecordedRun | None) -> Self:
        """Return a copy with its MLflow run and version."""
        if recorded is None:
            return self
        update = {
            "mlflow_run": recorded.run_id,
            "mlflow_url": recorded.url,
            "version": recorded.version,
        }
        return self.model_copy(update=update)


def note_lineage(
    store: ObjectStore, record: RunRecord, recorded: RecordedRun | None, parameters: RunParameters
) -> None:
    """Store the lineage of a model, whether it is served or not."""
    lineage = ModelLineage.of_artifact(record.artifact).model_copy(
        update={
            "key": record.key,
            "project": record.config.project,
            "verdict": name_verdict(record.decision),
            "prefect_run": record.prefect_run,
            "commit": record.commit,
            "config": record.config.model_dump(mode="json"),
            **parameters.model_dump(),
        }
    )
    lineage = lineage.with_export(record.dataset).with_run(recorded)
    write_finished(store, _prefix(record), lineage)


def note_recorded(store: ObjectStore, record: RunRecord, recorded: RecordedRun) -> None:
    """Add the MLflow run and version once a queued record has reached MLflow."""
    lineage = read_finished(store, _prefix(record), ModelLineage)
    if lineage:
        write_finished(store, _prefix(record), lineage.with_run(recorded))
    else:
        note_lineage(store, record, recorded, RunParameters())


def find_model(store: ObjectStore, name: str) -> ModelLineage | None:
    """Return the lineage of a model; None if the store does not contain the model."""
    outcomes = _read_all(store, LINEAGE.key(name, ""), ModelLineage)
    if outcomes:
        return _choose(outcomes)
    artifact = read_finished(store, MODELS.key(name), ModelArtifact)
    if artifact is None:
        return None
    return _add_export(store, ModelLineage.of_artifact(artifact))


def list_models(store: ObjectStore) -> list[ModelLineage]:
    """List every trained model, sorted by name."""
    by_model: dict[str, list[ModelLineage]] = {}
    for outcome in _read_all(store, LINEAGE.prefix, ModelLineage):
        by_model.setdefault(outcome.model, []).append(outcome)
    models = {name: _choose(outcomes) for name, outcomes in by_model.items()}
    for artifact in _read_all(store, TRAININGS.prefix, ModelArtifact):
        if artifact.name not in models:
            models[artifact.name] = _add_export(store, ModelLineage.of_artifact(artifact))
    return [models[name] for name in sorted(models)]


def ask_registry(settings: Settings, model: ModelLineage) -> ModelLineage:
    """Return a copy with empty fields filled from MLflow; raise `TrackingError` if MLflow fails."""
    with mlflow_errors(settings.mlflow_tracking_url):
        client = make_client(settings)
        versions = client.search_model_versions(f"tags.`intent.digest` = '{model.digest}'")
        if not versions:
            return model
        newest = max(versions, key=lambda version: int(version.version))
        run_id = newest.run_id or ""
        run = client.get_run(run_id)
    known = {
        "project": newest.name,
        "version": str(newest.version),
        "mlflow_run": run_id,
        "mlflow_url": run_url(settings, run.info.experiment_id, run_id),
        "verdict": run.data.tags.get("intent.verdict", ""),
        "prefect_run": run.data.tags.get("intent.prefect_run", ""),
        "commit": run.data.tags.get("mlflow.source.git.commit", ""),
        "export_uri": run.data.tags.get("intent.export", ""),
        "config": dict(run.data.params),
    }
    update = {name: value for name, value in known.items() if not getattr(model, name)}
    return model.model_copy(update=update)


def _prefix(record: RunRecord) -> str:
    return LINEAGE.key(record.artifact.name, record.key)


def _read_all(store: ObjectStore, prefix: str, kind: type[Any]) -> list[Any]:
    keys = [entry.key for entry in store.list(prefix)]
    ends = [key.removesuffix(f"/{MANIFEST}") for key in keys if key.endswith(f"/{MANIFEST}")]
    return [value for end in ends if (value := read_finished(store, end, kind)) is not None]


def _choose(outcomes: Iterable[ModelLineage]) -> ModelLineage:
    """Return the run that promoted the model, else the run registered last."""

    def rank(outcome: ModelLineage) -> tuple[bool, int]:
        version = int(outcome.version) if outcome.version.isdecimal() else -1
        return outcome.verdict == "promote", version

    return max(outcomes, key=rank)


def _add_export(store: ObjectStore, model: ModelLineage) -> ModelLineage:
    dataset = read_finished(store, DATASETS.key(model.dataset), DatasetManifest)
    return model.with_export(dataset) if dataset else model
