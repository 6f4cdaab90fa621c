"""Publish events through the Prefect server's event API.

The deployment `take-export/retrain` is triggered by `itag.export.ready`; the automations in
`deployments/automations.yaml` are triggered by other events.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from intent_core.errors import ServiceError
from tasks.settings import Settings

EXPORT_READY = "itag.export.ready"
_TIMEOUT_S = 30
_RETRIES = 2
"""After 2 and 4 seconds: SQLite has one writer, and a locked database is answered with 503."""


def publish_export_ready(settings: Settings, project: str, export_uri: str, content: str) -> str:
    """Post the event and return its id; `content` identifies the export's bytes (an etag).

    The id is a hash of project, URI and content, so repeated notices of one export are one event.
    Raises `ServiceError` when the Prefect server does not accept the event.
    """
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{project} {export_uri} {content}"))
    resource = {
        "prefect.resource.id": f"itag.export.{identity}",
        "prefect.resource.name": export_uri,
    }
    payload = {"project": project, "export_uri": export_uri}
    publish_event(settings, EXPORT_READY, resource, payload, identity)
    return identity


def publish_event(
    settings: Settings,
    event: str,
    resource: dict[str, str],
    payload: dict[str, Any],
    identity: str = "",
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Post an event; an empty `identity` gets a random id.

    Raises `ServiceError` on failure, `ConfigError` if Prefect refuses our login.
    """
    body = {
        "id": identity or str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource,
        "payload": payload,
    }
    url = f"{settings.prefect_api_url}/events"
    # Imported here: a rollback must switch first, and Prefect takes seconds to import.
    from tasks.orchestration.prefect_client import is_refusal, open_client, refused_login

    try:
        with open_client(settings, timeout_s, _RETRIES) as client:
            client.request("POST", "/events", json=[body])
    except httpx.HTTPError as error:
        if is_refusal(error):
            raise refused_login(settings) from error
        raise ServiceError(f"could not post event {event} to {url}: {error}") from error
