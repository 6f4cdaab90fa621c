"""A decided model in, a served model out; and the way back."""

from prefect import flow

from intent_core.artifacts import ModelArtifact
from intent_core.config import ServeConfig
from intent_core.dataset import DatasetManifest
from tasks.promotion import move_champion, move_champion_back, turn_back, turn_to
from tasks.serving import ServedModel
from tasks.settings import get_settings
from tasks.steps import get_store, require_finished


@flow(name="promote", flow_run_name="promote {artifact_uri}", persist_result=False)
def promote(
    artifact_uri: str, dataset_uri: str, serve: ServeConfig, project: str, version: str
) -> ServedModel:
    """Turn the public address to a model of the store, then point the registry at it."""
    store = get_store(get_settings())
    artifact = require_finished(store, artifact_uri, ModelArtifact)
    dataset = require_finished(store, dataset_uri, DatasetManifest)
    served = turn_to(artifact, dataset, serve, project, version)
    move_champion(served)
    return served


@flow(name="roll-back", persist_result=False)
def roll_back() -> ServedModel:
    """Serve the model that was served before; the registry follows when it can."""
    served = turn_back()
    move_champion_back(served)
    return served
