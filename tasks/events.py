"""The event that says an export is there, posted to Prefect's own event API.

The deployment `take-export/cpu` has a trigger on it. The event's id follows from what it tells,
so the same news twice is one event, whoever brings it.
"""

import uuid
from datetime import UTC, datetime

import httpx

from intent_core.errors import ServiceError
from tasks.settings import Settings

EXPORT_READY = "itag.export.ready"
_TIMEOUT_S = 30


def publish_export_ready(settings: Settings, project: str, export_uri: str, content: str) -> str:
    """Post the event; `content` names the export's bytes (an etag). Returns the event's id.

    Raises `ServiceError` when the Prefect server does not take it.
    """
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{project} {export_uri} {content}"))
    event = {
        "id": identity,
        "occurred": datetime.now(UTC).isoformat(),
        "event": EXPORT_READY,
        "resource": {
            "prefect.resource.id": f"itag.export.{identity}",
            "prefect.resource.name": export_uri,
        },
        "payload": {"project": project, "export_uri": export_uri},
    }
    url = f"{settings.prefect_api_url}/events"
    try:
        answer = httpx.post(url, json=[event], timeout=_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(f"Prefect at {url} did not take the event: {error}") from error
    return identity
