"""A decided model in, a served model out; and the way back."""

import contextlib
from collections.abc import Iterator

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.run_liveness import hold_run
from tasks.serving import promotion
from tasks.serving.state import ServedModel
from tasks.settings import get_settings
from tasks.storage.step_results import get_store, require_finished

# A promotion that was killed delays the next one by as much.
_LEASE_S = 60


@flow(
    name="promote",
    flow_run_name="promote {artifact_uri}",
    persist_result=False,
    on_running=[hold_run],
)
def promote(artifact_uri: str, serve: ServeConfig, project: str, version: str) -> ServedModel:
    """Turn the public address to a model of the store, then point the registry at it."""
    store = get_store(get_settings())
    artifact = require_finished(store, artifact_uri, ModelArtifact)
    with one_at_a_time(project):
        served = promotion.promote(artifact, serve, project, version)
        promotion.move_champion(served)
    return served


@flow(name="roll-back", persist_result=False, on_running=[hold_run])
def roll_back() -> ServedModel:
    """Serve the model that was served before; the registry follows when it can."""
    served = promotion.roll_back()
    promotion.move_champion_back(served)
    return served


@contextlib.contextmanager
def one_at_a_time(project: str) -> Iterator[None]:
    """Promotions of one project wait for one another, on whichever machines they run."""
    name = f"promote-{project}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, limit=1)
    with concurrency(name, lease_duration=_LEASE_S, strict=True):
        yield
