"""Cache of models on this machine's disk.

Every model is also in the store, so a removed model is downloaded again on its next use.
"""

import logging
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path

from intent_core.errors import ServingError
from intent_core.models.artifact import MANIFEST_FILE, ModelArtifact, digest_folder
from intent_core.serving.access.aliases import AliasFile
from tasks.settings import Settings
from tasks.storage.objects import download_folder
from tasks.storage.step_results import get_store
from tasks.storage.transfers import remove_folder
from tasks.system.processes import is_in_use, list_processes

logger = logging.getLogger(__name__)


def fetch_model(settings: Settings, artifact: ModelArtifact) -> Path:
    """Return the model's local folder; download the model and verify its digest if needed."""
    folder = settings.layout.models / artifact.name
    if not (folder / MANIFEST_FILE).exists():
        download_folder(
            get_store(settings), artifact.uri, folder, check=partial(_require_digest, artifact)
        )
    os.utime(folder)  # time of last use: the least recently used models are removed first
    return folder


def _require_digest(artifact: ModelArtifact, folder: Path) -> None:
    digest = digest_folder(folder)
    if digest != artifact.digest:
        raise ServingError(
            f"{artifact.uri}: digest mismatch, expected {artifact.digest[:12]}, got "
            f"{digest[:12]}. The model in the store was changed; train again"
        )


def forget_models(settings: Settings, needed: Collection[str]) -> list[str]:
    """Remove models and adapters that are not `needed`, in use, or recently used.

    `INTENT_KEEP_MODELS` is the number of recently used models to keep. Returns the removed names.
    """
    names, folders = find_forgettable(settings, needed)
    for path in folders:
        forget_model(path)
    return names


def find_forgettable(settings: Settings, needed: Collection[str]) -> tuple[list[str], list[Path]]:
    """Return the names and folders that `forget_models` would remove."""
    folders = [path for path in settings.layout.models.glob("intent-*") if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    used = {*needed, *_find_used(settings, [path.name for path in folders])}
    others = [path.name for path in folders if path.name not in used]
    kept = used | set(others[: settings.keep_models])
    places = (settings.layout.models, settings.layout.adapters)
    copies = [path for folder in places for path in sorted(folder.glob("intent-*"))]
    return others[settings.keep_models :], [path for path in copies if path.name not in kept]


def _find_used(settings: Settings, names: list[str]) -> set[str]:
    """Return the models with a running server, marked as in use, or target of a server's alias."""
    folder = settings.layout.processes
    servers = {record.name for record in list_processes(folder)}
    held = {path.stem for path in folder.glob("vllm-*.in-use") if is_in_use(folder, path.stem)}
    used = {name for name in names if any(f"-{name}-" in server for server in servers | held)}
    for server in servers:
        path = settings.layout.alias_file(server)
        for target in AliasFile(path).read().values() if path.exists() else ():
            used |= {target.model, target.trial.model} if target.trial else {target.model}
    return used


def forget_model(path: Path) -> None:
    """Remove the local copy of a model or adapter."""
    remove_folder(path)
    logger.info("removed local copy %s; the model is still in the store", path)
