"""Tasks that promote and roll back, publish events to Prefect and move the `champion` alias."""

import logging

from prefect import task

from intent_core.errors import ConfigError, PromotionInProgressError, ServiceError, ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.events import publish_event
from tasks.orchestration.retries import only_waits, retried_task
from tasks.serving.releases import read_golden, read_threshold
from tasks.serving.state import ServedModel, new_served_model
from tasks.serving.targets import open_target
from tasks.settings import Settings, get_settings
from tasks.tracking.experiments import find_runs_url
from tasks.tracking.registry import point_champion, try_point_champion

PROMOTED = "intent.model.promoted"
ROLLED_BACK = "intent.model.rolled-back"
NOT_PROMOTED = "intent.model.not-promoted"
# Short, because the user of a promotion or rollback waits for the event.
_TIMEOUT_S = 5

logger = logging.getLogger(__name__)


@retried_task("promote {artifact.name}", only_waits)
def promote(artifact: ModelArtifact, serve: ServeConfig, project: str, version: str) -> ServedModel:
    """Serve this model at the public address if it gives its golden answers there."""
    settings = get_settings()
    target, golden = open_target(settings), read_golden(settings, artifact, serve)
    served = new_served_model(
        settings,
        artifact,
        serve,
        project=project,
        version=version,
        golden=golden,
        abstain_below=read_threshold(settings, artifact),
    )
    former = target.read().current
    try:
        now = target.promote(served)
    except PromotionInProgressError:
        raise  # without an event: the other promotion publishes its own
    except ServingError as error:
        publish_model_event(settings, NOT_PROMOTED, served, former, str(error))
        raise
    if former is None or now.since != former.since:
        publish_model_event(settings, PROMOTED, now, former)
    return now


@task
def roll_back() -> ServedModel:
    """Serve the previous model."""
    settings = get_settings()
    target = open_target(settings)
    former = target.read().current
    served = target.roll_back()
    publish_model_event(settings, ROLLED_BACK, served, former)
    return served


@retried_task()
def move_champion(served: ServedModel) -> None:
    """Point the registry's `champion` alias to the served model."""
    point_champion(get_settings(), served.project, served.version)


@task
def move_champion_back(served: ServedModel) -> None:
    """Point `champion` to the served model after a rollback; only log a registry that is down."""
    try_point_champion(get_settings(), served.project, served.version)


def publish_model_event(
    settings: Settings,
    event: str,
    served: ServedModel,
    former: ServedModel | None,
    reason: str = "",
) -> None:
    """Publish an event about a model; a Prefect server that does not answer is only logged."""
    resource = {
        "prefect.resource.id": f"intent.model.{served.project}.{served.alias}",
        "prefect.resource.name": f"{served.project} as {served.alias!r}",
    }
    payload = {
        "project": served.project,
        "alias": served.alias,
        "model": served.artifact.name,
        "version": served.version,
        "former": former.artifact.name if former else "",
        "endpoint": served.endpoint,
        "runs": find_runs_url(settings, served.project),
        "reason": reason,
    }
    try:
        publish_event(settings, event, resource, payload, timeout_s=_TIMEOUT_S)
    except (ServiceError, ConfigError) as error:
        logger.warning("failed to publish event %s: %s", event, error)
