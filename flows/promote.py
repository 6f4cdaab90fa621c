"""Flows `promote` and `roll-back`: change the served model."""

import contextlib
from collections.abc import Iterator

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.run_hooks import explain_crash
from tasks.orchestration.run_liveness import hold_run
from tasks.serving import promotion
from tasks.serving.state import ServedModel
from tasks.settings import get_settings
from tasks.storage.step_results import get_store, require_finished

# If a promotion is killed, the next one waits this long for its lock to expire.
_LEASE_S = 60


@flow(
    name="promote",
    flow_run_name="promote {artifact_uri}",
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def promote(artifact_uri: str, serve: ServeConfig, project: str, version: str) -> ServedModel:
    """Serve a model from the store, then move the registry's alias `champion` to it."""
    store = get_store(get_settings())
    artifact = require_finished(store, artifact_uri, ModelArtifact)
    with one_at_a_time(project):
        served = promotion.promote(artifact, serve, project, version)
        promotion.move_champion(served)
    return served


@flow(name="roll-back", persist_result=False, on_running=[hold_run], on_crashed=[explain_crash])
def roll_back() -> ServedModel:
    """Serve the previous model again, then move the registry's alias if MLflow answers."""
    served = promotion.roll_back()
    promotion.move_champion_back(served)
    return served


@contextlib.contextmanager
def one_at_a_time(project: str) -> Iterator[None]:
    """Let one promotion of a project run at a time, across all machines."""
    name = f"promote-{project}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, limit=1)
    with concurrency(name, lease_duration=_LEASE_S, strict=True):
        yield
