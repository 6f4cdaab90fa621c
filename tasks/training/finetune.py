"""The task that runs the training program and brings its model into the store."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import (
    ConfigError,
    DataError,
    IntentError,
    ServiceError,
    TrainingError,
)
from intent_core.json_logs import read_what_it_is_about
from intent_core.models.artifact import ModelArtifact, content_name, digest_folder
from intent_core.models.base_model import BaseModelSource
from intent_core.recipe.config import TrainConfig, fingerprint
from intent_core.training.protocol import (
    FAULT_FILE,
    MODEL_FOLDER,
    PROGRAM_VERSION,
    PROGRESS_FILE,
    RESULT_FILE,
    TENSORBOARD_FOLDER,
    Fault,
    FaultKind,
    Progress,
    TrainingJob,
    TrainingResult,
    library_versions,
)
from tasks.models.base_models import fetch_base_model, identify_base_model
from tasks.orchestration.progress import Tracker, told_if_it_fails, track
from tasks.orchestration.retries import retry_delays, worth_a_retry
from tasks.settings import Settings, get_settings, training_environment
from tasks.settings.log_setup import find_run
from tasks.settings.tracing import traced
from tasks.storage.objects import ObjectStore, download_folder, upload_folder
from tasks.storage.step_results import (
    MANIFEST,
    get_store,
    read_finished,
    work_folder,
    write_finished,
)
from tasks.system.processes import in_use, processes_folder
from tasks.tracking.live_curves import LiveCurves, live_curves
from tasks.training.checkpoint_sync import CheckpointMirror

logger = logging.getLogger(__name__)

_STOP_GRACE_S = 60
_EXIT_STOPPED = 75
_ERRORS: dict[FaultKind, type[IntentError]] = {
    "ConfigError": ConfigError,
    "DataError": DataError,
    "TrainingError": TrainingError,
}


class TrainingStopped(KeyboardInterrupt):
    """The program was asked to stop and left a checkpoint. Ends the run like Ctrl-C."""


def training_prefix(dataset: DatasetManifest, config: TrainConfig) -> str:
    """Where the manifest of this training lies: a key over everything that shapes the model."""
    base = identify_base_model(config.base_model)
    parts = (dataset.fingerprint, config, base, PROGRAM_VERSION, library_versions())
    return f"trainings/{fingerprint(*parts)}"


@task(
    retries=len(retry_delays()),
    retry_delay_seconds=retry_delays(),
    retry_condition_fn=worth_a_retry,
    task_run_name="fine-tune {config.base_model} ({config.method})",
)
def finetune_model(
    dataset: DatasetManifest, config: TrainConfig, project: str = ""
) -> ModelArtifact:
    """Train in a process of its own, or resume what was interrupted; upload the model.

    With a `project` its curves are in MLflow while it trains.
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
            in_use(processes_folder(settings), training_lock(folder)),
        ):
            run_program(job, folder, tracker, curves)
    result = TrainingResult.model_validate_json((folder / RESULT_FILE).read_bytes())
    with told_if_it_fails():
        create_table_artifact(
            [{"step": step, "train_loss": round(loss, 4)} for step, loss in result.losses],
            key="training-curve",
            description="Loss on the training split by optimizer step.",
        )
    artifact = upload_model(store, folder, dataset, config, result)
    for curve in sorted((folder / TENSORBOARD_FOLDER).glob("events.*")):
        store.upload(curve, f"{prefix}/{TENSORBOARD_FOLDER}/{curve.name}")
    store.put(f"{prefix}/{RESULT_FILE}", (folder / RESULT_FILE).read_bytes())
    write_finished(store, prefix, artifact)
    mirror.forget()
    shutil.rmtree(folder)
    return artifact


def training_lock(folder: Path) -> str:
    """Held while somebody waits for the program that trains in this folder."""
    return f"training-{folder.name}"


def is_trained(folder: Path) -> bool:
    """A store that failed during the upload costs no second training."""
    path = folder / RESULT_FILE
    return path.exists() and '"finished"' in path.read_text(encoding="utf-8")


def estimate_disk(source: Path, method: str) -> int:
    """Bytes that training a base model takes: weights, optimizer state, checkpoint, copies."""
    size = sum(f.stat().st_size for f in ([source] if source.is_file() else source.rglob("*")))
    # A 4-bit file of 92 MB trains as 538 MB; a checkpoint holds weights and two moments.
    weights = size * 6 if source.is_file() else size
    return weights * (8 if method == "full" else 4)


def require_disk(folder: Path, config: TrainConfig, source: Path) -> None:
    """Before a minute is spent: room for all that the training writes."""
    needed = estimate_disk(source, config.method)
    # What a run that was stopped has left here is part of what it needed.
    needed -= sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"no space left for the model: {folder} has {free / 1e9:.1f} GB free, training "
            f"{config.base_model!r} needs about {needed / 1e9:.1f} GB; free some, or set "
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
    """Bring the dataset here and write the job file the program reads."""
    data = folder / "dataset"
    download_folder(store, dataset.uri, data)
    validation = dataset.splits.get("validation")
    job = TrainingJob(
        train=config,
        base_model=base,
        dataset_fingerprint=dataset.fingerprint,
        train_file=data / dataset.splits["train"].file,
        validation_file=data / validation.file if validation and validation.num_examples else None,
        output_dir=folder,
        cache_dir=settings.home.resolve() / "cache" / "base-models",
        log_fields={**find_run(), **read_what_it_is_about()}
        if settings.log_format == "json"
        else None,
    )
    path = folder / "job.json"
    path.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    return path


def run_program(job: Path, folder: Path, tracker: Tracker, curves: LiveCurves | None) -> None:
    """Start the program, show its progress, pass a cancellation on, and judge its end."""
    progress_file, log = folder / PROGRESS_FILE, folder / "training.log"
    progress_file.unlink(missing_ok=True)
    (folder / FAULT_FILE).unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "intent_core.training", str(job), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C reaches it through us, once, as SIGTERM.
            start_new_session=True,
            env=training_environment(),
        )
    try:
        shown = 0
        while process.poll() is None:
            shown = show_progress(progress_file, shown, tracker, curves)
            time.sleep(0.5)
        show_progress(progress_file, shown, tracker, curves)
    except BaseException:
        stop_program(process)
        raise
    judge_exit(process.returncode, folder, log)


def show_progress(path: Path, shown: int, tracker: Tracker, curves: LiveCurves | None) -> int:
    """Report the lines of `path` after the first `shown`; returns how many there are now."""
    if not path.exists():
        return shown
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    for line in complete[shown:]:
        progress = Progress.model_validate_json(line)
        if curves:
            curves.add(progress)
        if progress.phase == "training":
            message = (
                f"loss {progress.loss:.3f}, {progress.samples_per_second} samples/s, "
                f"{progress.seconds_left:.0f} s left"
            )
            tracker.update(progress.step, progress.total_steps, message)
        else:
            logger.info(progress.message)
    return len(complete)


def stop_program(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM lets the program save a checkpoint; after the grace the group is killed."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_STOP_GRACE_S)
    except ProcessLookupError:
        process.wait()
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def judge_exit(code: int, folder: Path, log: Path) -> None:
    """Turn the program's ending into the error it stands for, with its last lines."""
    if code == 0:
        return
    # torchrun has an exit code of its own for everything.
    if code in (_EXIT_STOPPED, -signal.SIGTERM) or (folder / RESULT_FILE).exists():
        raise TrainingStopped("training was stopped; the next run goes on from its checkpoint")
    if (folder / FAULT_FILE).exists():
        fault = Fault.model_validate_json((folder / FAULT_FILE).read_bytes())
        raise _ERRORS[fault.kind](fault.message)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if any("No space left on device" in line for line in lines[-60:]):
        raise TrainingError(
            f"no space left for the model or its checkpoint in {folder}: free some, or set "
            "INTENT_HOME to a larger disk; the next run goes on from the last whole checkpoint"
        )
    if code == -signal.SIGKILL:
        # From outside, whatever it was at; the checkpoint is where the next try goes on.
        raise ServiceError(
            "the training program was killed, as a machine short of memory does; it goes on from "
            f"its checkpoint. {log} has what it said"
        )
    tail = "\n".join(lines[-20:])
    raise TrainingError(f"the training program ended with code {code}; {log} ends:\n{tail}")


def upload_model(
    store: ObjectStore,
    folder: Path,
    dataset: DatasetManifest,
    config: TrainConfig,
    result: TrainingResult,
) -> ModelArtifact:
    """Put the model folder into the store under its content name."""
    model = folder / MODEL_FOLDER
    digest = digest_folder(model)
    name = content_name(digest)
    artifact = ModelArtifact(
        name=name,
        digest=digest,
        uri=f"models/{name}",
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
