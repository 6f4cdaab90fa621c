"""Compare the MLflow registry with the models in the store and with the served model."""

import datetime
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from intent_core.errors import ServiceError, StorageError, TrackingError
from tasks.maintenance.checks import Diagnosis, Examination, report_note, report_problem
from tasks.orchestration.run_liveness import has_live_run
from tasks.serving.targets import open_target
from tasks.storage.layout import DATASETS, MODELS
from tasks.storage.objects import ObjectStore
from tasks.storage.step_results import MANIFEST, get_store
from tasks.tracking.registry import (
    ARTIFACT_TAG,
    MISSING_TAG,
    REMOVED_TAG,
    find_champion,
    point_champion,
)
from tasks.tracking.runs import make_client, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


def check_versions(examination: Examination) -> Iterator[Diagnosis]:
    """Tag registered versions whose model is not in the store; never delete them."""
    settings, name = examination.settings, "versions"
    store = get_store(settings)
    try:
        with mlflow_errors(settings.mlflow_tracking_url):
            client = make_client(settings)
            for version in client.search_model_versions():
                artifact = version.tags.get(ARTIFACT_TAG)
                if not artifact or REMOVED_TAG in version.tags:
                    continue
                is_there = store.stat(MODELS.key(artifact, MANIFEST)) is not None
                if is_there and MISSING_TAG in version.tags:
                    yield examination.repair(
                        name,
                        f"{version.name} version {version.version}: {artifact} is in the store "
                        "again",
                        f"tag {MISSING_TAG} removed",
                        partial(
                            client.delete_model_version_tag,
                            version.name,
                            version.version,
                            MISSING_TAG,
                        ),
                    )
                elif not is_there and _is_stored_here(store, version):
                    yield _report_missing(examination, client, version, artifact)
    except TrackingError as error:
        yield report_note(
            name, f"not checked: {error}", "run `intent doctor` again when MLflow answers"
        )
    except StorageError as error:
        yield report_problem(
            name, f"not checked: {error}", "check the store, then run `intent doctor` again"
        )


def _is_stored_here(store: ObjectStore, version: Any) -> bool:
    """Whether the model was stored here: its dataset is. A registry can serve several stores."""
    dataset = version.tags.get("intent.dataset_fingerprint", "")
    return bool(dataset) and store.stat(DATASETS.key(dataset, MANIFEST)) is not None


def _report_missing(
    examination: Examination, client: "MlflowClient", version: Any, artifact: str
) -> Diagnosis:
    if not examination.dry_run and MISSING_TAG not in version.tags:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(version.name, version.version, MISSING_TAG, now)
    return report_problem(
        "versions",
        f"{version.name} version {version.version} refers to {artifact}, which is not in "
        f"{examination.settings.store_uri}",
        f"restore models/{artifact} from a backup, train it again, or delete the version in "
        f"MLflow (tagged {MISSING_TAG})",
    )


def check_champion(examination: Examination) -> Iterator[Diagnosis]:
    """Point the gateway and MLflow's `champion` alias to the model in the serving state."""
    settings = examination.settings
    target = open_target(settings)
    try:
        drift = target.find_drift()
        # A live run may be before or after its promotion.
        if drift and not has_live_run(settings):
            yield examination.repair("served-model", *drift, target.reconcile)
        served = target.read().current
    except ServiceError as error:
        yield report_problem(
            "champion", f"could not read the serving state: {error}", "check the store"
        )
        return
    if served is None or not served.version:
        return
    try:
        with mlflow_errors(settings.mlflow_tracking_url):
            champion = find_champion(make_client(settings), served.project)
    except TrackingError as error:
        yield report_note(
            "champion", f"not checked: {error}", "run `intent doctor` again when MLflow answers"
        )
        return
    if champion != served.version:
        yield examination.repair(
            "champion",
            f"the champion of {served.project} in MLflow is version {champion or 'none'}, but the "
            f"served model is {served.artifact.name} (version {served.version})",
            f"champion set to version {served.version}",
            partial(point_champion, settings, served.project, served.version),
        )
