"""Flow `finetune`: train a model on a dataset, on the GPU pool or in the calling process."""

from prefect import flow

from intent_core.datasets.manifest import DatasetManifest
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import TrainConfig
from tasks.orchestration.run_hooks import explain_crash
from tasks.orchestration.run_liveness import hold_run
from tasks.settings import get_settings
from tasks.settings.pai import get_pai_settings
from tasks.storage.step_results import get_store, require_finished
from tasks.training.dlc import finetune_on_pai
from tasks.training.finetune import finetune_model


@flow(
    name="finetune",
    flow_run_name="finetune {dataset_uri}",
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def finetune(dataset_uri: str, train: TrainConfig, project: str = "") -> ModelArtifact:
    """Fine-tune the base model on a dataset from the store and write the model to the store.

    If `project` is set, training curves are logged to its MLflow experiment. If
    INTENT_PAI_TRAIN_IMAGE is set, training runs as a DLC job on PAI, and the flow waits for it.
    """
    dataset = require_finished(get_store(get_settings()), dataset_uri, DatasetManifest)
    if get_pai_settings().train_image:
        return finetune_on_pai(dataset, train, project)
    return finetune_model(dataset, train, project)
