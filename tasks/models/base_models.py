"""Base models in an object store, or on a model hub at a pinned commit.

A base model is checked and identified before it is downloaded: by keys and etags in a store, by its
commit on a hub. Downloads are cached below the home under that identity.
"""

import re
from pathlib import Path

from intent_core.errors import ConfigError, ServiceError, StorageError
from intent_core.models.base_model import BaseModelSource, find_base_model, locate_base_model
from intent_core.recipe.config import fingerprint
from tasks.settings import Settings
from tasks.storage.objects import ObjectStore, StoredObject
from tasks.storage.open import is_in_bucket, open_store
from tasks.storage.transfers import place_folder

# Weights in other formats, such as pickle, can run code when they are loaded.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", "*.md")
_CONFIG = "config.json"
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})")
_HUB_UNPINNED = re.compile(r"[\w.-]+/[\w.-]+(@.*)?")


def require_base_model(name: str) -> None:
    """Raise `ConfigError` if the base model does not exist; a hub is not queried."""
    if is_in_bucket(name):
        _list(name)
    elif not _is_hub(name):
        find_base_model(name)


def identify_base_model(name: str) -> str:
    """Return a digest of the base model's content without downloading it."""
    if is_in_bucket(name):
        return _digest(_list(name)[1])
    if _is_hub(name):
        return name.rpartition("@")[2][:16]
    return locate_base_model(name).digest


def fetch_base_model(settings: Settings, name: str) -> BaseModelSource:
    """Return the base model on this machine; download it if necessary.

    Raises `StorageError` or `ServiceError` if the store or hub does not answer.
    """
    if not is_in_bucket(name) and not _is_hub(name):
        return locate_base_model(name)
    digest = identify_base_model(name)
    folder = settings.layout.base_models
    target = folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', name)[-60:]}-{digest}"
    if not target.is_dir():
        with place_folder(target, _CONFIG) as partial:
            if is_in_bucket(name):
                _download_stored(name, digest, partial)
            else:
                _download_hub(settings, name, partial)
            find_base_model(str(partial))
    return BaseModelSource(name, target, digest)


def _is_hub(name: str) -> bool:
    if _HUB.fullmatch(name):
        return True
    if _HUB_UNPINNED.fullmatch(name) and not Path(name).expanduser().exists():
        raise ConfigError(
            f"base model {name!r} is not a directory on this machine. For a model on a hub, pin "
            f"its commit: {name.partition('@')[0]}@<40 hex digits>"
        )
    return False


def _list(name: str) -> tuple[ObjectStore, list[StoredObject]]:
    store = open_store(name.rstrip("/"))
    objects = list(store.list())
    if not any(stored.key == _CONFIG for stored in objects):
        raise ConfigError(
            f"base model {name!r} does not contain config.json. Set train.base_model to a folder "
            "with a model in transformers format"
        )
    return store, objects


def _digest(objects: list[StoredObject]) -> str:
    return fingerprint([(stored.key, stored.etag, stored.size) for stored in objects])


def _download_stored(name: str, digest: str, folder: Path) -> None:
    """Download the files; raise `StorageError` if they are not those that `digest` identifies."""
    store, objects = _list(name)
    wanted = [o for o in objects if any(Path(o.key).match(pattern) for pattern in _PATTERNS)]
    etags = [store.download(stored.key, folder / stored.key).etag for stored in wanted]
    if _digest(objects) != digest or etags != [stored.etag for stored in wanted]:
        raise StorageError(
            f"base model {name!r} changed during its download. Run again once it is complete"
        )


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
            f"could not download base model {name!r} from the hub: {error}. Set "
            "INTENT_HUB_ENDPOINT to a mirror, HF_TOKEN for a gated model, or copy the model to "
            "the store and set train.base_model to its s3:// or oss:// folder"
        ) from error
