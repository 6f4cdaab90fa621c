"""Check the free disk space before the next run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from intent_core.errors import IntentError
from intent_core.models.artifact import ModelArtifact
from intent_core.models.base_model import locate_base_model
from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.serving.targets import open_target
from tasks.settings import Settings
from tasks.storage.step_results import get_store
from tasks.training.finetune import estimate_disk

_GB = 1e9


def check_disk(examination: Examination) -> Iterator[Diagnosis]:
    """Report folders with too little space for another run like that of the served model."""
    settings = examination.settings
    try:
        served = open_target(settings).read().current
        trained, model = _estimate(settings, served.artifact) if served else (0, 0)
    except IntentError as error:
        yield report_problem(
            "disk", f"cannot estimate the next run's disk use: {error}", "check the store"
        )
        trained, model = 0, 0
    needs: dict[int, tuple[Path, float]] = {}
    for folder, size in _disk_use(settings, trained, model):
        device = os.stat(folder).st_dev
        first, total = needs.get(device, (folder, settings.spare_disk_gb * _GB))
        needs[device] = (first, total + size)
    for folder, needed in needs.values():
        free = shutil.disk_usage(folder).free
        if free < needed:
            yield report_problem(
                "disk",
                f"{folder} has {free / _GB:.1f} GB free, and the next run needs about "
                f"{needed / _GB:.1f} GB (including a reserve of "
                f"INTENT_SPARE_DISK_GB={settings.spare_disk_gb:g})",
                "free disk space (`intent clean --dry-run` lists candidates), or use a larger disk",
            )


def _disk_use(settings: Settings, trained: int, model: int) -> Iterator[tuple[Path, int]]:
    """Yield the folders that a run writes to, and how many bytes it writes."""
    home = settings.layout.root
    home.mkdir(parents=True, exist_ok=True)
    yield home, trained + model  # the training, and the local copy of the model for serving
    if not settings.mlflow_url and settings.mlflow_weights == "copy":
        yield home, model
    root = get_store(settings).local_root()
    if root is not None and root.is_dir():
        yield root, model


def _estimate(settings: Settings, artifact: ModelArtifact) -> tuple[int, int]:
    """Return the bytes that a training of this kind needs, and the bytes of its model."""
    model = sum(file.size for file in get_store(settings).scan(f"{artifact.uri}/"))
    try:
        return estimate_disk(locate_base_model(artifact.base_model).path, artifact.method), model
    except (IntentError, OSError):
        # The base model is not on this machine: estimate from the model's size. A merged model is
        # as large as its base; for an adapter this is only a guess.
        return (model * 8 if artifact.method == "full" else model * 4), model
