"""Apply the automations of `deployments/automations.yaml` to the Prefect server."""

from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from intent_core.errors import ConfigError, ServiceError
from tasks.settings import CHECKOUT, Settings

AUTOMATIONS = CHECKOUT / "deployments" / "automations.yaml"
_WEBHOOK = "webhook"
# Escapes quotes and line breaks, so that any text is one JSON string.
_AS_JSON = "{{% filter tojson %}}{}{{% endfilter %}}"


def ensure_automations(settings: Settings, path: Path = AUTOMATIONS) -> list[str]:
    """Create or update the declared automations and return their names.

    An automation that was disabled on the server stays disabled. Automations that notify are
    skipped unless INTENT_NOTIFICATION_BLOCK is set. Raises `ConfigError` when that block does not
    exist, `ServiceError` when the server rejects an automation.
    """
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))["automations"]
    applied = []
    with get_client(sync_client=True) as client:
        block = _find_block(client, settings.notification_block)
        for fields in declared:
            notify = fields.pop("notify", None)
            if notify and not block:
                continue
            if notify:
                kind, _, _ = settings.notification_block.partition("/")
                fields["actions"] = [_notification(kind, block, notify)]
            try:
                _apply(client, AutomationCore.model_validate(fields))
            except PrefectHTTPStatusError as error:
                name = fields["name"]
                raise ServiceError(f"Prefect rejected automation {name!r}: {error}") from error
            applied.append(str(fields["name"]))
    return applied


def _find_block(client: SyncPrefectClient, named: str) -> str:
    """Return the id of the block TYPE/NAME; "" if `named` is empty."""
    if not named:
        return ""
    kind, _, name = named.partition("/")
    try:
        return str(client.read_block_document_by_name(name, kind, include_secrets=False).id)
    except ObjectNotFound as error:
        raise ConfigError(
            f"INTENT_NOTIFICATION_BLOCK={named}: no such block on the Prefect server. Create it in "
            "the Prefect UI (Blocks, +), set the variable to TYPE/NAME, e.g. "
            "slack-webhook/on-call, and run `intent automations`"
        ) from error


def _notification(kind: str, block: str, texts: dict[str, str]) -> dict[str, Any]:
    if kind != _WEBHOOK:
        return {"type": "send-notification", "block_document_id": block, **texts}
    fields = (f'"{key}": {_AS_JSON.format(text)}' for key, text in texts.items())
    payload = "{" + ", ".join(fields) + "}"
    return {"type": "call-webhook", "block_document_id": block, "payload": payload}


def _apply(client: SyncPrefectClient, automation: AutomationCore) -> None:
    present = client.read_automations_by_name(automation.name)
    if not present:
        client.create_automation(automation)
        return
    # Send all fields, also defaults: Prefect refuses an update with a missing field.
    fields = {**automation.model_dump(exclude={"owner_resource"}), "enabled": present[0].enabled}
    client.update_automation(present[0].id, AutomationCore.model_validate(fields))
