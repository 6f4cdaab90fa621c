"""MLflow's logged models: one per model, with the metrics of every run that judged it.

The weights stay with the run: MLflow's client finds the files of a logged model only with its
tracking URI in the environment.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from intent_core.models.artifact import ModelArtifact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

DIGEST_TAG = "intent.digest"


def note_judged(
    client: "MlflowClient",
    run_id: str,
    artifact: ModelArtifact,
    metrics: Mapping[str, float],
    dataset: tuple[str, str],
) -> None:
    """Log a run's metrics as those of its model on a dataset, given by name and digest."""
    from mlflow.entities import LoggedModelInput, Metric

    model = _find(client, run_id, artifact) or _create(client, run_id, artifact)
    if any(metric.run_id == run_id for metric in model.metrics or ()):
        return
    if model.source_run_id != run_id:
        client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
    # With the time at which the run logged them, they are no further points of the run.
    at = client.get_metric_history(run_id, next(iter(metrics)))[-1].timestamp
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, value, at, 0, model.model_id, *dataset, run_id)
            for name, value in metrics.items()
        ],
    )


def _find(client: "MlflowClient", run_id: str, artifact: ModelArtifact) -> "LoggedModel | None":
    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"tags.`{DIGEST_TAG}` = '{artifact.digest}'"
    models = client.search_logged_models([experiment], filter_string=wanted)
    return next(iter(models), None)


def _create(client: "MlflowClient", run_id: str, artifact: ModelArtifact) -> "LoggedModel":
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=artifact.name,
        source_run_id=run_id,
        tags={DIGEST_TAG: artifact.digest},
        params={
            "method": artifact.method,
            "base_model": artifact.base_model,
            "dataset_fingerprint": artifact.dataset_fingerprint,
        },
        model_type="intent",
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return client.finalize_logged_model(model.model_id, "READY")
