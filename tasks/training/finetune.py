"""The task that runs the training program and uploads its model to the store."""

import logging
import shutil
from pathlib import Path

from prefect.artifacts import create_table_artifact

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import TrainingError
from intent_core.json_logs import read_log_context
from intent_core.models.artifact import ModelArtifact, content_name, digest_folder
from intent_core.models.base_model import BaseModelSource
from intent_core.recipe.config import TrainConfig, fingerprint
from intent_core.training.protocol import (
    MODEL_FOLDER,
    PROGRAM_VERSION,
    RESULT_FILE,
    TENSORBOARD_FOLDER,
    TOO_LONG_FILE,
    TrainingJob,
    TrainingResult,
    library_versions,
)
from tasks.models.base_models import fetch_base_model, identify_base_model
from tasks.orchestration.progress import failures_logged, track
from tasks.orchestration.retries import retried_task
from tasks.settings import Settings, get_settings
from tasks.settings.log_setup import find_run
from tasks.settings.tracing import traced
from tasks.storage.layout import MODELS, TRAININGS
from tasks.storage.objects import ObjectStore, download_folder, upload_folder
from tasks.storage.step_results import (
    MANIFEST,
    get_store,
    read_finished,
    work_folder,
    write_finished,
)
from tasks.system.processes import in_use
from tasks.tracking.live_curves import live_curves
from tasks.training.checkpoint_sync import CheckpointMirror
from tasks.training.process import run_program

logger = logging.getLogger(__name__)


def training_prefix(dataset: DatasetManifest, config: TrainConfig) -> str:
    """Return the prefix of a training in the store: a fingerprint of everything it depends on."""
    base = identify_base_model(config.base_model)
    parts = (dataset.fingerprint, config, base, PROGRAM_VERSION, library_versions())
    return TRAININGS.key(fingerprint(*parts))


@retried_task("fine-tune {config.base_model} ({config.method})")
def finetune_model(
    dataset: DatasetManifest, config: TrainConfig, project: str = ""
) -> ModelArtifact:
    """Train in a separate process, or resume an interrupted training, and upload the model.

    With a `project`, the training curves are logged to MLflow during the training.
    """
    settings = get_settings()
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
    artifact = upload_model(store, folder, dataset, config, result)
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


def upload_model(
    store: ObjectStore,
    folder: Path,
    dataset: DatasetManifest,
    config: TrainConfig,
    result: TrainingResult,
) -> ModelArtifact:
    """Upload the model folder to the store under its content name."""
    model = folder / MODEL_FOLDER
    digest = digest_folder(model)
    name = content_name(digest)
    artifact = ModelArtifact(
        name=name,
        digest=digest,
        uri=MODELS.key(name),
        method=config.method,
        base_model=result.base_model,
        base_model_digest=result.base_model_digest,
        dataset_fingerprint=dataset.fingerprint,
        train_fingerprint=training_prefix(dataset, config).rpartition("/")[2],
        system_prompt=config.system_prompt,
    )
    if read_finished(store, artifact.uri, ModelArtifact) is None:
        (model / MANIFEST).write_text(artifact.model_dump_json(indent=1), encoding="utf-8")
        upload_folder(store, model, artifact.uri)
    return artifact
