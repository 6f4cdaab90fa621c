"""Flow `evaluate-model`: evaluate a model through vLLM, as it would be served."""

from prefect import flow

from intent_core.datasets.manifest import DatasetManifest
from intent_core.evaluation.report import EvaluationReport
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import EvaluateConfig, ServeConfig
from tasks.evaluation.evaluate import evaluate_served
from tasks.orchestration.run_hooks import explain_crash
from tasks.orchestration.run_liveness import hold_run
from tasks.settings import get_settings
from tasks.storage.step_results import get_store, require_finished


@flow(
    name="evaluate-model",
    flow_run_name="evaluate {artifact_uri}",
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def evaluate_model(
    artifact_uri: str, dataset_uri: str, evaluate: EvaluateConfig, serve: ServeConfig
) -> EvaluationReport:
    """Serve a model from the store with vLLM and score its answers on the test split."""
    store = get_store(get_settings())
    artifact = require_finished(store, artifact_uri, ModelArtifact)
    dataset = require_finished(store, dataset_uri, DatasetManifest)
    return evaluate_served(artifact, dataset, evaluate, serve)
