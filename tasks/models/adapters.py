"""Adapters where a vLLM server finds them by name, beside the base model they were trained on."""

import json
import shutil
import tempfile
from pathlib import Path

from intent_core.errors import ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.models.base_model import unpack_base_model
from tasks.models.base_models import fetch_base_model
from tasks.settings import Settings

_ADAPTER, _CONFIG = "adapter", "adapter_config.json"


def fetch_base(settings: Settings, artifact: ModelArtifact) -> Path:
    """The base model an adapter was trained on. Raises `ServingError` when it has changed."""
    source = fetch_base_model(settings, artifact.base_model)
    if source.digest != artifact.base_model_digest:
        raise ServingError(
            f"{artifact.name} was trained on {artifact.base_model!r} with digest "
            f"{artifact.base_model_digest[:12]}, and what is there now has {source.digest[:12]}: "
            "bring the former back, or train again"
        )
    return unpack_base_model(source, settings.layout.base_models)


def is_placed(settings: Settings, artifact: ModelArtifact) -> bool:
    """Whether a server that runs already finds it."""
    return (settings.layout.adapters / artifact.name / _CONFIG).exists()


def place_adapter(settings: Settings, artifact: ModelArtifact, model: Path, base: Path) -> None:
    """The adapter below `model` under its content name, whole or not at all.

    vLLM takes it only if it names its base model by the very path the server has loaded.
    """
    folder, source = settings.layout.adapters / artifact.name, model / _ADAPTER
    if not source.is_dir():
        raise ServingError(
            f"{artifact.name} has no adapter (method {artifact.method!r}): set serve.mode to "
            "'merged'"
        )
    wanted = json.loads((source / _CONFIG).read_bytes())
    wanted["base_model_name_or_path"] = str(base)
    config = folder / _CONFIG
    if config.exists() and json.loads(config.read_bytes()) == wanted:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".placing-", dir=folder.parent))
    try:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        (partial / _CONFIG).write_text(json.dumps(wanted), encoding="utf-8")
        partial.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
