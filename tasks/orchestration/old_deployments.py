"""Deployments under the names of earlier versions: they start nothing by themselves.

Prefect has no aliases, so a deployment with an old name stays on the server until it is deleted.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

RENAMED = {
    "take-export/cpu": "take-export/retrain",
    "intent-pipeline/cpu": "intent-pipeline/run",
    "finetune/gpu": "finetune/fine-tune",
    "evaluate-model/gpu": "evaluate-model/evaluate",
    "prepare/cpu": "prepare/prepare",
    "promote/cpu": "promote/promote",
    "roll-back/cpu": "roll-back/roll-back",
    "watch-exports/cpu": "watch-exports/watch-exports",
}
"""The old names of deployments and their names in `prefect.yaml`."""


class Leftover(NamedTuple):
    """Something that a deployment with an old name still does, and how to end that."""

    what: str
    action: str
    is_schedule: bool
    end: Callable[[], object]


def find_leftovers(client: SyncPrefectClient) -> Iterator[Leftover]:
    """Yield the active schedules, triggers and separate limits of deployments with old names."""
    for old_name, name in RENAMED.items():
        old, new = _find(client, old_name), _find(client, name)
        if old is None or new is None:
            continue
        title = f"deployment {old_name}, now named {name},"
        yield from _find_schedules(client, title, old)
        yield from _find_triggers(client, title, old)
        yield from _find_limits(client, title, old, new)


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _find_schedules(
    client: SyncPrefectClient, title: str, old: DeploymentResponse
) -> Iterator[Leftover]:
    for schedule in old.schedules:
        if schedule.active:
            yield Leftover(
                f"{title} has an active schedule",
                "paused; enable the schedule of the new deployment in the Prefect UI",
                True,
                partial(client.update_deployment_schedule, old.id, schedule.id, active=False),
            )


def _find_triggers(
    client: SyncPrefectClient, title: str, old: DeploymentResponse
) -> Iterator[Leftover]:
    """Yield the triggers of a `prefect.yaml`, which Prefect names so, not a user's automations."""
    for trigger in client.read_resource_related_automations(f"prefect.deployment.{old.id}"):
        if trigger.enabled and trigger.name.startswith(f"{old.name}__automation_"):
            yield Leftover(
                f"{title} is started by events",
                "its trigger is paused; the new deployment has one",
                False,
                partial(client.pause_automation, trigger.id),
            )


def _find_limits(
    client: SyncPrefectClient, title: str, old: DeploymentResponse, new: DeploymentResponse
) -> Iterator[Leftover]:
    """Yield the limit of an old name that is not the new one's: both could run at once."""
    ours, theirs = new.global_concurrency_limit, old.global_concurrency_limit
    if ours is None or (theirs is not None and theirs.id == ours.id):
        return
    yield Leftover(
        f"{title} has a limit of its own: one run of each could be in progress at once",
        f"shares the limit of {title.split()[-1].rstrip(',')}",
        False,
        partial(_share_limit, client, old, str(ours.id)),
    )


def _share_limit(client: SyncPrefectClient, old: DeploymentResponse, limit: str) -> None:
    changes = {
        "global_concurrency_limit_id": limit,
        "concurrency_options": {"collision_strategy": "ENQUEUE"},
    }
    client.request(
        "PATCH", "/deployments/{id}", path_params={"id": old.id}, json=changes
    ).raise_for_status()
