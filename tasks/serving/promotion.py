"""The tasks that move traffic, and the registry's `champion` after it."""

import logging

from prefect import task

from intent_core.errors import TrackingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.retries import only_waits, retry_delays, worth_a_retry
from tasks.serving.moving import promote
from tasks.serving.moving import roll_back as roll_back_serving
from tasks.serving.releases import read_golden, require_release
from tasks.serving.targets.local import ServedModel
from tasks.settings import Settings, get_settings
from tasks.tracking.registry import find_champion, set_champion
from tasks.tracking.runs import make_client, mlflow_errors

logger = logging.getLogger(__name__)


def promote_release(settings: Settings, name: str) -> ServedModel:
    """Promote, or end the promotion of, a model that was accepted; MLflow may be down.

    Raises `ConfigError` for one that was not.
    """
    release = require_release(settings, name)
    golden = read_golden(settings, release.artifact, release.serve)
    served = promote(
        settings,
        release.artifact,
        release.serve,
        project=release.project,
        version=release.version,
        golden=golden,
    )
    follow(settings, served)
    return served


@task(
    task_run_name="turn to {artifact.name}",
    retries=len(retry_delays()),
    retry_delay_seconds=retry_delays(),
    retry_condition_fn=only_waits,
)
def turn_to(
    artifact: ModelArtifact,
    serve: ServeConfig,
    project: str,
    version: str,
) -> ServedModel:
    """Serve this artifact at the public address if it answers there as in its evaluation."""
    settings = get_settings()
    golden = read_golden(settings, artifact, serve)
    return promote(settings, artifact, serve, project=project, version=version, golden=golden)


@task
def turn_back() -> ServedModel:
    """Serve what was served before."""
    return roll_back_serving(get_settings())


@task(
    retries=len(retry_delays()),
    retry_delay_seconds=retry_delays(),
    retry_condition_fn=worth_a_retry,
)
def move_champion(served: ServedModel) -> None:
    """Point the registry's `champion` at what is served."""
    point_champion(get_settings(), served)


@task
def move_champion_back(served: ServedModel) -> None:
    """The registry after a rollback."""
    follow(get_settings(), served)


def follow(settings: Settings, served: ServedModel) -> None:
    """Point `champion` at what is served; a registry that is down is only reported."""
    try:
        point_champion(settings, served)
    except TrackingError as error:
        logger.warning(
            "%s is served, but the registry's `champion` was not moved: %s",
            served.artifact.name,
            error,
        )


def read_champion(settings: Settings, project: str) -> str | None:
    """The registry's `champion`; None when there is none or the registry does not answer."""
    try:
        with mlflow_errors(settings.mlflow_tracking_url):
            return find_champion(make_client(settings), project)
    except TrackingError as error:
        logger.debug("%s", error)
        return None


def point_champion(settings: Settings, served: ServedModel) -> None:
    if not served.version:
        return  # it is not registered yet; `record_queue` points to it when it is
    with mlflow_errors(settings.mlflow_tracking_url):
        set_champion(make_client(settings), served.project, served.version)
