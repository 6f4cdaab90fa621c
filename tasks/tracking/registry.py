"""MLflow's model registry: one version per model, with aliases `candidate` and `champion`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from intent_core.errors import LoginRefusedError, TrackingError
from intent_core.markdown import escape_markdown
from intent_core.models.artifact import ModelArtifact, content_name
from intent_core.reporting.review import Review
from tasks.settings import Settings
from tasks.tracking.logged_models import DIGEST_TAG
from tasks.tracking.runs import (
    PROMOTE,
    VERDICT_TAG,
    make_client,
    mlflow_errors,
    name_accuracies,
    name_verdict,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT_TAG = "intent.artifact"
MISSING_TAG = "intent.artifact_missing"
"""Time since which a version's model is missing from the store without having been cleaned."""
REMOVED_TAG = "intent.artifact_removed"
"""Time when `intent clean` removed the model from the store."""
CANDIDATE, CHAMPION = "candidate", "champion"
_LONGEST_REASON = 1000

logger = logging.getLogger(__name__)


def register_candidate(
    client: "MlflowClient", name: str, run_id: str, artifact: ModelArtifact, weights: Path | str
) -> str:
    """Return the version of this model; create it with its weights if it does not exist.

    The files of a folder are copied to MLflow; a URI is only referenced.
    """
    version = find_version(client, name, artifact.digest)
    if version is None:
        source = str(weights)
        if isinstance(weights, Path):
            # Plain files, because MLflow's model flavors have corrupted adapters on reload.
            client.log_artifacts(run_id, str(weights), "model")
            source = f"runs:/{run_id}/model"
        version = _create_version(client, name, run_id, artifact, source)
    client.set_registered_model_alias(name, CANDIDATE, version)
    return version


def describe_version(client: "MlflowClient", name: str, version: str, review: Review) -> None:
    """Write the metrics and the verdict to the version's description and tags.

    A version that was accepted keeps that verdict: a later run with a stricter gate does not
    change that it was served.
    """
    report, decision = review.report, review.decision
    verdict = name_verdict(decision)
    before = client.get_model_version(name, version).tags.get(VERDICT_TAG)
    if before == PROMOTE and verdict != PROMOTE:
        return
    headline = (
        f"intent accuracy {report.intent_accuracy.value:.3f}, parameter accuracy "
        f"{report.parameter_accuracy.value:.3f} on {report.num_examples} utterances. "
    )
    reason = decision.reason[:_LONGEST_REASON]
    # MLflow renders descriptions as Markdown, and tags as text.
    client.update_model_version(name, version, headline + escape_markdown(reason))
    client.set_model_version_tag(name, version, VERDICT_TAG, verdict)
    client.set_model_version_tag(name, version, "intent.reason", reason)


def name_champion(client: "MlflowClient", name: str, review: Review) -> str:
    """Return the model that a run was compared with and its accuracies, for the table of runs."""
    decision = review.decision
    if decision.is_champion:
        return "this model"
    if review.champion is None or decision.champion_digest is None:
        return "none"
    version = find_version(client, name, decision.champion_digest)
    named = f"version {version}" if version else content_name(decision.champion_digest)
    return f"{named}: {name_accuracies(review.champion)}"


def find_version(client: "MlflowClient", name: str, digest: str) -> str | None:
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(DIGEST_TAG) == digest:
            return str(version.version)
    return None


def point_champion(settings: Settings, project: str, version: str) -> None:
    """Point `champion` at the served version; call it after the server has switched."""
    if not version:
        return  # not registered yet; `record_queued` sets the alias later
    with mlflow_errors(settings.mlflow_tracking_url):
        make_client(settings).set_registered_model_alias(project, CHAMPION, version)


def try_point_champion(settings: Settings, project: str, version: str) -> None:
    """Like `point_champion`, but only log a warning if the registry fails."""
    try:
        point_champion(settings, project, version)
    except TrackingError as error:
        logger.warning(
            "version %s of %s is served, but the alias `champion` could not be updated: %s",
            *(version, project, error),
        )


def read_champion(settings: Settings, project: str) -> str | None:
    """Return the version of `champion`; None if there is none or the registry is unavailable."""
    try:
        with mlflow_errors(settings.mlflow_tracking_url):
            return find_champion(make_client(settings), project)
    except TrackingError as error:
        is_refused = isinstance(error, LoginRefusedError)
        logger.log(logging.WARNING if is_refused else logging.DEBUG, "%s", error)
        return None


def find_champion(client: "MlflowClient", name: str) -> str | None:
    """Return the version of `champion`; None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _create_version(
    client: "MlflowClient", name: str, run_id: str, artifact: ModelArtifact, source: str
) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        source=source,
        run_id=run_id,
        tags={
            DIGEST_TAG: artifact.digest,
            ARTIFACT_TAG: artifact.name,
            "intent.dataset_fingerprint": artifact.dataset_fingerprint,
            "intent.base_model": artifact.base_model,
        },
    )
    return str(version.version)
