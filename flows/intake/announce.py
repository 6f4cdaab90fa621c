"""Turn a store's notification into an event in Prefect for each project concerned."""

import logging

from pydantic import SecretStr

from flows.intake.projects import load_projects
from intent_core.errors import ConfigError
from tasks.labeling.notifications import ExportNotice
from tasks.orchestration.events import publish_export_ready
from tasks.settings import Settings
from tasks.storage.objects import InvalidKeyError, ObjectStore, StoredObject
from tasks.storage.step_results import get_store

logger = logging.getLogger(__name__)


def announce(settings: Settings, notice: ExportNotice) -> list[str]:
    """Publish an event for every project that the export belongs to; return their names.

    An export without its marker is left to the watcher. A key that no object of the store can have
    is ignored, because a sender would repeat a refused notice for days. Raises `ServiceError` if
    the store does not answer or Prefect rejects the event.
    """
    key = find_key(settings, notice.uri)
    projects, store = load_projects(settings.projects), get_store(settings)
    concerned = [name for name, project in projects.items() if key and project.is_export(key)]
    # Read from the store: a notification may be late, or may not contain the etag.
    export = _find(store, key) if key and concerned else None
    if export is None:
        logger.info("ignored %s: not an export of a project, or deleted", notice.uri)
        return []
    for name in concerned:
        project = projects[name]
        if not project.marker or _find(store, project.marker_key(export.key)):
            publish_export_ready(settings, name, export.key, export.etag)
            logger.info("announced to project %s: %s", name, notice.uri)
    return concerned


def _find(store: ObjectStore, key: str) -> StoredObject | None:
    try:
        return store.stat(key)
    except InvalidKeyError as error:
        logger.warning("ignored a notice: %s", error)
        return None


def find_key(settings: Settings, uri: str) -> str | None:
    """Return the key of an object in the configured store; None if it is in another store."""
    root = settings.store_uri.rstrip("/") + "/"
    return uri.removeprefix(root) if uri.startswith(root) else None


def require_receiver_secrets(settings: Settings) -> tuple[SecretStr, SecretStr]:
    """Return the receiver's token and secret. Raises `ConfigError` if one is not set."""
    if settings.receiver_token is None or settings.receiver_secret is None:
        raise ConfigError(
            "the receiver needs INTENT_RECEIVER_TOKEN and INTENT_RECEIVER_SECRET: create each with "
            "`openssl rand -hex 24` and configure the sender with them"
        )
    return settings.receiver_token, settings.receiver_secret
