"""What is served, and moving it: on this machine, or on the replicas it commands."""

import datetime
from collections.abc import Sequence

from intent_core.errors import PromotionInProgressError, ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.events import NOT_PROMOTED, PROMOTED, ROLLED_BACK, publish_model_event
from tasks.serving.golden import GoldenAnswer
from tasks.serving.targets import fleet
from tasks.serving.targets import local as serving
from tasks.serving.targets.local import ServedModel, ServingState
from tasks.settings import Settings


def read_served(settings: Settings) -> ServingState:
    """The served model and the one before it."""
    return fleet.read_fleet_state(settings) if settings.fleet else serving.read_state(settings)


def does_answer(settings: Settings, served: ServedModel) -> bool:
    """Does the served model answer here, or on every replica?"""
    if not settings.fleet:
        return serving.does_answer(settings, served)
    replicas = read_replicas(settings)
    return bool(replicas) and set(replicas.values()) == {fleet.describe_served(served)}


def read_replicas(settings: Settings) -> dict[str, str]:
    """What each replica of the fleet serves, or why it does not; none without a fleet."""
    if not settings.fleet:
        return {}
    reports = fleet.read_reports(settings)
    return {one.replica: one.serving or one.fault or "nothing yet" for one in reports}


def promote(
    settings: Settings,
    artifact: ModelArtifact,
    serve: ServeConfig,
    *,
    project: str,
    version: str,
    golden: Sequence[GoldenAnswer],
) -> ServedModel:
    """Serve this model wherever models are served, and send an event to Prefect."""
    served = ServedModel(
        artifact=artifact,
        serve=serve,
        endpoint=settings.endpoint,
        alias=serve.alias,
        version=version,
        project=project,
        golden=tuple(golden),
        since=datetime.datetime.now(datetime.UTC),
    )
    former = read_served(settings).current
    turn = fleet.promote_in_fleet if settings.fleet else serving.promote_model
    try:
        now = turn(settings, served)
    except PromotionInProgressError:
        raise  # the other one tells what becomes of it
    except ServingError as error:
        publish_model_event(settings, NOT_PROMOTED, served, former, str(error))
        raise
    if former is None or now.since != former.since:
        publish_model_event(settings, PROMOTED, now, former, "")
    return now


def roll_back(settings: Settings) -> ServedModel:
    """Return to the model served before; Prefect is told of it if it answers."""
    former = read_served(settings).current
    turn = fleet.roll_back_fleet if settings.fleet else serving.roll_back
    served = turn(settings)
    publish_model_event(settings, ROLLED_BACK, served, former, "")
    return served


def reconcile(settings: Settings) -> tuple[ServedModel | None, list[str]]:
    """The served model, and what had to be done to make it so."""
    return fleet.reconcile_fleet(settings) if settings.fleet else serving.reconcile(settings)


def note_version(settings: Settings, artifact: ModelArtifact, version: str) -> ServedModel | None:
    """The registry's version of a model that was promoted without one; None: another is served."""
    if settings.fleet:
        return fleet.note_fleet_version(settings, artifact.digest, version)
    return serving.note_version(settings, artifact, version)
