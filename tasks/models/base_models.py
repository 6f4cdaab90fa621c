"""Base models that lie elsewhere: in an object store, or on a model hub at a pinned commit.

What is named is found before anything is downloaded, and identified without it: a store's by keys
and etags, a hub's by its commit. Downloads are kept by that identity below the home.
"""

import re
import shutil
import tempfile
from pathlib import Path

from intent_core.errors import ConfigError, ServiceError
from intent_core.models.base_model import BaseModelSource, find_base_model, locate_base_model
from intent_core.recipe.config import fingerprint
from tasks.settings import Settings
from tasks.storage.objects import ObjectStore, StoredObject
from tasks.storage.open import is_in_bucket, open_store

# Weights in other formats run code when they are loaded.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", "*.md")
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})")
_HUB_UNPINNED = re.compile(r"[\w.-]+/[\w.-]+(@.*)?")


def require_base_model(name: str) -> None:
    """Raise `ConfigError` unless there is such a base model, as far as one sees from here."""
    if is_in_bucket(name):
        _list(name)
    elif not _is_hub(name):
        find_base_model(name)


def identify_base_model(name: str) -> str:
    """A digest of the base model's content, downloaded or not."""
    if is_in_bucket(name):
        return fingerprint([(stored.key, stored.etag, stored.size) for stored in _list(name)[1]])
    if _is_hub(name):
        return name.rpartition("@")[2][:16]
    return locate_base_model(name).digest


def fetch_base_model(settings: Settings, name: str) -> BaseModelSource:
    """The base model on this machine, downloaded if need be.

    Raises `StorageError` or `ServiceError` when its place does not answer.
    """
    if not is_in_bucket(name) and not _is_hub(name):
        return locate_base_model(name)
    digest = identify_base_model(name)
    folder = settings.layout.base_models
    target = folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', name)[-60:]}-{digest}"
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder))
        try:
            if is_in_bucket(name):
                _download_stored(name, partial)
            else:
                _download_hub(settings, name, partial)
            find_base_model(str(partial))
            partial.chmod(0o755)
            if not target.is_dir():
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return BaseModelSource(name, target, digest)


def _is_hub(name: str) -> bool:
    if _HUB.fullmatch(name):
        return True
    if _HUB_UNPINNED.fullmatch(name) and not Path(name).expanduser().exists():
        raise ConfigError(
            f"base model {name!r} is no directory here; a hub's model needs its commit, as "
            f"{name.partition('@')[0]}@<40 hex digits>, so that the same recipe is the same model"
        )
    return False


def _list(name: str) -> tuple[ObjectStore, list[StoredObject]]:
    store = open_store(name.rstrip("/"))
    objects = list(store.list())
    if not any(stored.key == "config.json" for stored in objects):
        raise ConfigError(
            f"base model {name!r}: there is no config.json below it; set train.base_model to a "
            "folder with a model in transformers format"
        )
    return store, objects


def _download_stored(name: str, folder: Path) -> None:
    store, objects = _list(name)
    for stored in objects:
        if any(Path(stored.key).match(pattern) for pattern in _PATTERNS):
            store.download(stored.key, folder / stored.key)


def _download_hub(settings: Settings, name: str, folder: Path) -> None:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, commit = name.partition("@")
    try:
        snapshot_download(
            repository,
            revision=commit,
            local_dir=folder,
            allow_patterns=list(_PATTERNS),
            endpoint=settings.hub_endpoint or None,
            max_workers=4,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError) as error:
        raise ServiceError(
            f"base model {name!r} could not be downloaded from the hub: {error}. Set "
            "INTENT_HUB_ENDPOINT for a mirror, HF_TOKEN for a model that asks for one, or put the "
            "model into the store and name its s3:// or oss:// folder"
        ) from error
