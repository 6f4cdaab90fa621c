"""MLflow's logged models: weights with their metrics, to which the registry's versions refer."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from intent_core.models.artifact import ModelArtifact

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST_TAG = "intent.digest"


def ensure_logged_model(
    client: "MlflowClient", run_id: str, artifact: ModelArtifact, weights: Path | str
) -> tuple[str, str]:
    """Return the id and the URI of this model in MLflow; create it if it does not exist.

    The files of a folder are copied to MLflow; a URI is only referenced.
    """
    model_id = _find(client, run_id, artifact) or _create(client, run_id, artifact, weights)
    return model_id, str(weights) if isinstance(weights, str) else f"models:/{model_id}"


def note_judged(
    client: "MlflowClient",
    run_id: str,
    artifact: ModelArtifact,
    metrics: Mapping[str, float],
    dataset: tuple[str, str],
) -> None:
    """Log a run's metrics as those of its model on a dataset, given by name and digest.

    Nothing is logged if the model was registered by an earlier version of this software.
    """
    from mlflow.entities import LoggedModelInput, Metric

    model_id = _find(client, run_id, artifact)
    if model_id is None:
        return
    model = client.get_logged_model(model_id)
    if any(metric.run_id == run_id for metric in model.metrics or ()):
        return
    if model.source_run_id != run_id:
        client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
    # With the time at which the run logged them, they are no further points of the run.
    at = client.get_metric_history(run_id, next(iter(metrics)))[-1].timestamp
    client.log_batch(
        run_id,
        metrics=[Metric(k, v, at, 0, model_id, *dataset, run_id) for k, v in metrics.items()],
    )


def _find(client: "MlflowClient", run_id: str, artifact: ModelArtifact) -> str | None:
    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"tags.`{DIGEST_TAG}` = '{artifact.digest}'"
    complete = None
    for model in client.search_logged_models([experiment], filter_string=wanted):
        if model.status.value == "READY":
            complete = model.model_id
        else:
            client.delete_logged_model(model.model_id)  # left by an attempt that failed
    return complete


def _create(
    client: "MlflowClient", run_id: str, artifact: ModelArtifact, weights: Path | str
) -> str:
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name="model",
        source_run_id=run_id,
        tags={DIGEST_TAG: artifact.digest},
        params={
            "method": artifact.method,
            "base_model": artifact.base_model,
            "dataset_fingerprint": artifact.dataset_fingerprint,
        },
        model_type="intent",
    )
    if isinstance(weights, Path):
        # Plain files, because MLflow's model flavors have corrupted adapters on reload.
        client.log_model_artifacts(model.model_id, str(weights))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    identity: str = model.model_id
    return identity
