"""Events on the Prefect server: an export is there, another model is served.

Posted to its own event API, without waiting for Prefect's machinery. The deployment
`take-export/cpu` has a trigger on the first kind, `deployments/automations.yaml` on the others.
"""

import logging
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from intent_core.errors import ServiceError
from tasks.serving.targets.local import ServedModel
from tasks.settings import Settings

EXPORT_READY = "itag.export.ready"
PROMOTED = "intent.model.promoted"
ROLLED_BACK = "intent.model.rolled-back"
NOT_PROMOTED = "intent.model.not-promoted"
_TIMEOUT_S = 30
# Whoever promotes or rolls back waits for it.
_SHORT_TIMEOUT_S = 5

logger = logging.getLogger(__name__)


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
    _publish(settings, identity, EXPORT_READY, resource, payload, _TIMEOUT_S)
    return identity


def publish_model_event(
    settings: Settings, event: str, served: ServedModel, former: ServedModel | None, reason: str
) -> None:
    """Say what became of a model. A Prefect server that does not answer stops nothing."""
    resource = {
        "prefect.resource.id": f"intent.model.{served.project}.{served.alias}",
        "prefect.resource.name": f"{served.project} as {served.alias!r}",
    }
    payload = {
        "project": served.project,
        "alias": served.alias,
        "model": served.artifact.name,
        "version": served.version,
        "former": former.artifact.name if former else "",
        "endpoint": served.endpoint,
        "reason": reason,
    }
    try:
        _publish(settings, str(uuid.uuid4()), event, resource, payload, _SHORT_TIMEOUT_S)
    except ServiceError as error:
        logger.warning("nobody is notified of %s: %s", event, error)


def _publish(
    settings: Settings,
    identity: str,
    event: str,
    resource: dict[str, str],
    payload: dict[str, Any],
    timeout_s: float,
) -> None:
    body = {
        "id": identity,
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
