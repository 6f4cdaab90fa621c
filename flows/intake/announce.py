"""From a store's notification to the project it concerns, and on to Prefect as an event."""

import logging

from pydantic import SecretStr

from flows.intake.projects import load_projects
from intent_core.errors import ConfigError
from tasks.labeling.notifications import ExportNotice
from tasks.orchestration.events import publish_export_ready
from tasks.settings import Settings
from tasks.storage.step_results import get_store

logger = logging.getLogger(__name__)


def announce(settings: Settings, notice: ExportNotice) -> list[str]:
    """Post an event for every project whose export this is; returns the projects' names.

    An export whose marker is not there yet is left to the watcher. Raises `ServiceError` when
    the store does not answer or Prefect does not take an event.
    """
    key = find_key(settings, notice.uri)
    projects, store = load_projects(settings.projects), get_store(settings)
    concerned = [name for name, project in projects.items() if key and project.is_export(key)]
    # What the store says counts: a notice may be late, or tell no etag.
    export = store.stat(key) if key and concerned else None
    if export is None:
        logger.info("%s is no project's export, or is gone", notice.uri)
        return []
    for name in concerned:
        project = projects[name]
        if not project.marker or store.stat(project.marker_key(export.key)):
            publish_export_ready(settings, name, export.key, export.etag)
            logger.info("%s: %s announced", name, notice.uri)
    return concerned


def find_key(settings: Settings, uri: str) -> str | None:
    """The key of an object in the configured store; None for one that is elsewhere."""
    root = settings.store_uri.rstrip("/") + "/"
    return uri.removeprefix(root) if uri.startswith(root) else None


def require_receiver_secrets(settings: Settings) -> tuple[SecretStr, SecretStr]:
    """The receiver's token and secret; `ConfigError` that says how to make them."""
    if settings.receiver_token is None or settings.receiver_secret is None:
        raise ConfigError(
            "the receiver needs INTENT_RECEIVER_TOKEN and INTENT_RECEIVER_SECRET: make each with "
            "`openssl rand -hex 24` and give them to the sender"
        )
    return settings.receiver_token, settings.receiver_secret
