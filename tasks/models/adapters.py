"""Place adapters where a vLLM server finds them by name, with the base model of their training."""

import json
import shutil
from pathlib import Path

from intent_core.errors import ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.models.base_model import unpack_base_model
from tasks.models.base_models import fetch_base_model
from tasks.settings import Settings
from tasks.storage.transfers import place_folder, remove_folder

_ADAPTER, _CONFIG = "adapter", "adapter_config.json"


def fetch_base(settings: Settings, artifact: ModelArtifact) -> Path:
    """Fetch the base model of an adapter. Raises `ServingError` if the base model has changed."""
    source = fetch_base_model(settings, artifact.base_model)
    if source.digest != artifact.base_model_digest:
        raise ServingError(
            f"{artifact.name} was trained on {artifact.base_model!r} with digest "
            f"{artifact.base_model_digest[:12]}, but the base model now has digest "
            f"{source.digest[:12]}. Restore the original base model or train again"
        )
    return unpack_base_model(source, settings.layout.base_models)


def is_placed(settings: Settings, artifact: ModelArtifact) -> bool:
    """Return whether a running server can find the adapter."""
    return (settings.layout.adapters / artifact.name / _CONFIG).exists()


def place_adapter(settings: Settings, artifact: ModelArtifact, model: Path, base: Path) -> None:
    """Copy the adapter of a model folder to its place under its content name, atomically.

    vLLM loads it only if its configuration has the same base model path as the server.
    """
    folder, source = settings.layout.adapters / artifact.name, model / _ADAPTER
    if not source.is_dir():
        raise ServingError(
            f"{artifact.name} does not contain an adapter (method {artifact.method!r}); set "
            "serve.mode to 'merged'"
        )
    wanted = json.loads((source / _CONFIG).read_bytes())
    wanted["base_model_name_or_path"] = str(base)
    config = folder / _CONFIG
    if config.exists() and json.loads(config.read_bytes()) == wanted:
        return
    if folder.exists():
        remove_folder(folder)
    with place_folder(folder, _CONFIG) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        (partial / _CONFIG).write_text(json.dumps(wanted), encoding="utf-8")
