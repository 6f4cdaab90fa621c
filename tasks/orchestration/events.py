"""Events on the Prefect server, posted to its event API.

The deployment `take-export/cpu` has a trigger on exports that are ready,
`deployments/automations.yaml` on other events.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from intent_core.errors import ServiceError
from tasks.settings import Settings

EXPORT_READY = "itag.export.ready"
_TIMEOUT_S = 30


def publish_export_ready(settings: Settings, project: str, export_uri: str, content: str) -> str:
    """Post the event; `content` names the export's bytes (an etag). Returns the event's id.

    The id follows from what it tells, so the same news twice is one event, whoever brings it.
    Raises `ServiceError` when the Prefect server does not take it.
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
    """Post an event; without an `identity` a new one. Raises `ServiceError` when that fails."""
    body = {
        "id": identity or str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource,
        "payload": payload,
    }
    url = f"{settings.prefect_api_url}/events"
    try:
        answer = httpx.post(url, json=[body], timeout=timeout_s, trust_env=False, auth=_login())
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(f"Prefect at {url} did not take the event: {error}") from error


def _login() -> tuple[str, str] | None:
    """What Prefect's own client would log in with (PREFECT_API_AUTH_STRING)."""
    from prefect.settings import get_current_settings  # a rollback has turned before it waits

    secret = get_current_settings().api.auth_string
    if secret is None:
        return None
    user, _, password = secret.get_secret_value().partition(":")
    return user, password
