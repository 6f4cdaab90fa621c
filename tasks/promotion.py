"""The tasks that move traffic, and the registry's `champion` after it."""

import logging

from prefect import task

from intent_core.artifacts import ModelArtifact
from intent_core.config import ServeConfig
from intent_core.dataset import DatasetManifest
from intent_core.errors import TrackingError
from intent_core.splits import SplitName
from tasks.evaluation import read_examples
from tasks.registry import set_champion
from tasks.retries import retry_delays, worth_a_retry
from tasks.serving import ServedModel, promote_model
from tasks.serving import roll_back as roll_back_serving
from tasks.settings import Settings, get_settings
from tasks.steps import get_store
from tasks.tracking import make_client, translated

logger = logging.getLogger(__name__)

_GOLDEN = 5


@task(task_run_name="turn to {artifact.name}")
def turn_to(
    artifact: ModelArtifact,
    dataset: DatasetManifest,
    serve: ServeConfig,
    project: str,
    version: str,
) -> ServedModel:
    """Serve this artifact at the public address, probed with utterances it was not trained on."""
    settings = get_settings()
    held_out: SplitName = "validation" if dataset.splits["validation"].num_examples else "test"
    golden = read_examples(get_store(settings), dataset, held_out)[:_GOLDEN]
    return promote_model(settings, artifact, serve, project=project, version=version, golden=golden)


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
    follow_rollback(get_settings(), served)


def follow_rollback(settings: Settings, served: ServedModel) -> None:
    """Point `champion` at the model served again; a registry that is down is only reported."""
    try:
        point_champion(settings, served)
    except TrackingError as error:
        logger.warning(
            "%s is served again, but the registry's `champion` was not moved: %s",
            served.artifact.name,
            error,
        )


def point_champion(settings: Settings, served: ServedModel) -> None:
    if not served.version:
        return  # it is not registered yet; `record_queue` points to it when it is
    with translated(settings.mlflow_tracking_url):
        set_champion(make_client(settings), served.project, served.version)
