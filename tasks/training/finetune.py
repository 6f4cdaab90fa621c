"""The task that runs the training program and uploads its model to the store."""

import logging
import shutil
from pathlib import Path

from prefect.artifacts import create_table_artifact

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import TrainingError
from intent_core.json_logs import read_log_context
from intent_core.models.artifact import ModelArtifact
from intent_core.models.base_model import BaseModelSource
from intent_core.recipe.config import TrainConfig
from intent_core.training.protocol import (
    MODEL_FOLDER,
    RESULT_FILE,
    TENSORBOARD_FOLDER,
    TOO_LONG_FILE,
    TrainingJob,
    TrainingResult,
)
from tasks.models.base_models import fetch_base_model
from tasks.orchestration.progress import failures_logged, track
from tasks.orchestration.retries import retried_task
from tasks.settings import Settings, get_settings
from tasks.settings.log_setup import find_run
from tasks.settings.tracing import traced
from tasks.storage.objects import ObjectStore, download_folder
from tasks.storage.step_results import get_store, work_folder, write_finished
from tasks.system.processes import in_use
from tasks.tracking.live_curves import live_curves
from tasks.training.checkpoint_sync import CheckpointMirror
from tasks.training.finished import reuse_training, store_model, training_prefix
from tasks.training.process import run_program

logger = logging.getLogger(__name__)


@retried_task("fine-tune {config.base_model} ({config.method})")
def finetune_model(
    dataset: DatasetManifest, config: TrainConfig, project: str = ""
) -> ModelArtifact:
    """Train in a separate process, or resume an interrupted training, and upload the model.

    If these texts were trained already, only the vocabulary of that model changes.
    With a `project`, the training curves are logged to MLflow during the training.
    """
    settings = get_settings()
    if done := reuse_training(settings, dataset, config):
        return done
    store = get_store(settings)
    prefix = training_prefix(dataset, config)
    folder = work_folder(settings, prefix)
    mirror = CheckpointMirror(store, prefix, folder)
    if not is_trained(folder):
        base = fetch_base_model(settings, config.base_model)
        require_disk(folder, config, base.path)
        job = write_job(store, dataset, config, base, folder, settings)
        with (
            track("fine-tune", "fine-tune") as tracker,
            mirror,
            live_curves(settings, project, prefix) as curves,
            traced("training program"),
            in_use(settings.layout.processes, training_lock(folder)),
        ):
            run_program(job, folder, tracker, curves)
    result = TrainingResult.model_validate_json((folder / RESULT_FILE).read_bytes())
    with failures_logged():
        create_table_artifact(
            [{"step": step, "train_loss": round(loss, 4)} for step, loss in result.losses],
            key="training-curve",
            description="Loss on the training split by optimizer step.",
        )
    base_model = result.base_model, result.base_model_digest
    artifact = store_model(store, folder / MODEL_FOLDER, dataset, config, base_model)
    for curve in sorted((folder / TENSORBOARD_FOLDER).glob("events.*")):
        store.upload(curve, f"{prefix}/{TENSORBOARD_FOLDER}/{curve.name}")
    if result.num_too_long:
        store.upload(folder / TOO_LONG_FILE, f"{prefix}/{TOO_LONG_FILE}")
    store.put(f"{prefix}/{RESULT_FILE}", (folder / RESULT_FILE).read_bytes())
    write_finished(store, prefix, artifact)
    mirror.forget()
    shutil.rmtree(folder)
    return artifact


def training_lock(folder: Path) -> str:
    """Return the name of the lock that is held while a training runs in this folder."""
    return f"training-{folder.name}"


def is_trained(folder: Path) -> bool:
    """Return whether the training has finished, so that a failed upload does not repeat it."""
    path = folder / RESULT_FILE
    return path.exists() and '"finished"' in path.read_text(encoding="utf-8")


def estimate_disk(source: Path, method: str) -> int:
    """Return the bytes on disk that a training needs: weights, optimizer, checkpoint, copies."""
    size = sum(f.stat().st_size for f in ([source] if source.is_file() else source.rglob("*")))
    # A 4-bit file of 92 MB unpacks to 538 MB; a checkpoint has the weights and two moments.
    weights = size * 6 if source.is_file() else size
    return weights * (8 if method == "full" else 4)


def require_disk(folder: Path, config: TrainConfig, source: Path) -> None:
    """Raise `TrainingError` before the training starts if the disk is too small for it."""
    needed = estimate_disk(source, config.method)
    # Files left by a stopped run are part of the estimate.
    needed -= sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"not enough disk space: {folder} has {free / 1e9:.1f} GB free, training "
            f"{config.base_model!r} needs about {needed / 1e9:.1f} GB. Free some space or set "
            "INTENT_HOME to a larger disk"
        )


def write_job(
    store: ObjectStore,
    dataset: DatasetManifest,
    config: TrainConfig,
    base: BaseModelSource,
    folder: Path,
    settings: Settings,
) -> Path:
    """Download the dataset and write the job file for the training program."""
    data = folder / "dataset"
    shutil.rmtree(data, ignore_errors=True)  # an earlier attempt's
    download_folder(store, dataset.uri, data)
    validation = dataset.splits.get("validation")
    job = TrainingJob(
        train=config,
        base_model=base,
        dataset_fingerprint=dataset.fingerprint,
        dataset=dataset,
        train_file=data / dataset.splits["train"].file,
        validation_file=data / validation.file if validation and validation.num_examples else None,
        output_dir=folder,
        cache_dir=settings.layout.base_models,
        log_fields={**find_run(), **read_log_context()} if settings.log_format == "json" else None,
    )
    path = folder / "job.json"
    path.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    return path
