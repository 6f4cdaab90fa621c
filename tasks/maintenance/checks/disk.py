"""A full disk, seen before a run meets it."""

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
    """Is there room for another run like the one that made the served model?"""
    settings = examination.settings
    try:
        served = open_target(settings).read().current
        trained, model = _estimate(settings, served.artifact) if served else (0, 0)
    except IntentError as error:
        yield report_problem("disk", f"the next run's need is unknown: {error}", "see to the store")
        trained, model = 0, 0
    needs: dict[int, tuple[Path, float]] = {}
    for folder, size in _wants(settings, trained, model):
        device = os.stat(folder).st_dev
        former = needs.get(device, (folder, settings.spare_disk_gb * _GB))
        needs[device] = (former[0], former[1] + size)
    for folder, needed in needs.values():
        free = shutil.disk_usage(folder).free
        if free < needed:
            yield report_problem(
                "disk",
                f"{folder} has {free / _GB:.1f} GB free, and the next run needs about "
                f"{needed / _GB:.1f} GB (INTENT_SPARE_DISK_GB={settings.spare_disk_gb:g} of it "
                "to spare)",
                "`intent clean --dry-run` says what can go; or a larger disk",
            )


def _wants(settings: Settings, trained: int, model: int) -> Iterator[tuple[Path, int]]:
    """Which folder a run writes how much into."""
    home = settings.layout.root
    home.mkdir(parents=True, exist_ok=True)
    yield home, trained + model  # the training, and the model that is served from there
    if not settings.mlflow_url and settings.mlflow_weights == "copy":
        yield home, model
    root = get_store(settings).local_root()
    if root is not None and root.is_dir():
        yield root, model


def _estimate(settings: Settings, artifact: ModelArtifact) -> tuple[int, int]:
    """Bytes a training like this model's takes, and bytes of a model like it."""
    model = sum(file.size for file in get_store(settings).scan(f"{artifact.uri}/"))
    try:
        return estimate_disk(locate_base_model(artifact.base_model).path, artifact.method), model
    except (IntentError, OSError):
        # The base model lies elsewhere: a merged model is as large, an adapter tells nothing.
        return (model * 8 if artifact.method == "full" else model * 4), model
