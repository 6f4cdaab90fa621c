"""Publish events through the Prefect server's event API.

The deployment `take-export/retrain` is triggered by `itag.export.ready`; the automations in
`deployments/automations.yaml` are triggered by other events.
"""

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from intent_core.errors import ServiceError
from tasks.settings import Settings

EXPORT_READY = "itag.export.ready"
_TIMEOUT_S = 30
_BUSY_DELAYS_S = (0.5, 1, 2, 4)


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
    try:
        _post(url, body, timeout_s).raise_for_status()
    except httpx.HTTPError as error:
        from tasks.orchestration.prefect_client import is_refusal, refused_login  # slow import

        if is_refusal(error):
            raise refused_login(settings) from error
        raise ServiceError(f"could not post event {event} to {url}: {error}") from error


def _post(url: str, body: dict[str, Any], timeout_s: float) -> httpx.Response:
    """Post an event, and again while the server's database is locked (503): SQLite has one writer.

    Prefect's own client does the same. The event's id makes a second post harmless.
    """
    for delay_s in _BUSY_DELAYS_S:
        answer = httpx.post(url, json=[body], timeout=timeout_s, trust_env=False, auth=_login())
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return answer
        time.sleep(delay_s)
    return httpx.post(url, json=[body], timeout=timeout_s, trust_env=False, auth=_login())


def _login() -> tuple[str, str] | None:
    """Return the user and password of PREFECT_API_AUTH_STRING, as Prefect's own client uses it."""
    from prefect.settings import get_current_settings  # slow import: a rollback must switch first

    secret = get_current_settings().api.auth_string
    if secret is None:
        return None
    user, _, password = secret.get_secret_value().partition(":")
    return user, password
