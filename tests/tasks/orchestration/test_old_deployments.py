"""Deployments with the names of earlier versions start nothing, and share the new ones' limits."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.flows import load_flow_from_entrypoint

from flows.pipeline.flow import intent_pipeline
from flows.watch_exports import take_export
from tasks.maintenance.checks import Diagnosis, Examination
from tasks.maintenance.checks.deployments import check_deployments
from tasks.orchestration.deploy_step import retire_old_names
from tasks.orchestration.old_deployments import RENAMED
from tasks.settings import CHECKOUT, Settings

pytestmark = pytest.mark.flow

OLD_RUN, RUN = "intent-pipeline/cpu", "intent-pipeline/run"
OLD_RETRAIN, RETRAIN = "take-export/cpu", "take-export/retrain"


@pytest.fixture
def upgraded(platform: Settings) -> Iterator[SyncPrefectClient]:
    """A server with the deployments of an earlier version, and the new ones."""
    limit: Any = {"concurrency_limit": 1}
    weekly = [{"schedule": {"cron": "0 3 * * 1"}, "active": True}]
    with get_client(sync_client=True) as client:
        run, take = client.create_flow(intent_pipeline), client.create_flow(take_export)
        made = [
            client.create_deployment(run, "cpu", schedules=weekly, **limit),
            client.create_deployment(run, "run", **limit),
            client.create_deployment(take, "retrain"),
            client.create_deployment(take, "cpu"),
        ]
        trigger = DeploymentEventTrigger(expect={"itag.export.ready"}, name="cpu__automation_1")
        trigger.set_deployment_id(made[-1])
        own = trigger.model_copy(update={"name": "by a user"})
        automations = [client.create_automation(one.as_automation()) for one in (trigger, own)]
        yield client
        for automation in automations:
            client.delete_automation(automation)
        for deployment in made:
            client.delete_deployment(deployment)


def limit_of(client: SyncPrefectClient, name: str) -> object:
    limit = client.read_deployment_by_name(name).global_concurrency_limit
    return limit and limit.id


def enabled_triggers(client: SyncPrefectClient, name: str) -> list[str]:
    deployment = f"prefect.deployment.{client.read_deployment_by_name(name).id}"
    related = client.read_resource_related_automations(deployment)
    return [trigger.name for trigger in related if trigger.enabled]


def test_every_new_name_is_in_prefect_yaml() -> None:
    deployed = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text(encoding="utf-8"))
    names = {
        f"{load_flow_from_entrypoint(entry['entrypoint']).name}/{entry['name']}"
        for entry in deployed["deployments"]
    }
    assert names == set(RENAMED.values())


def test_deploying_leaves_old_names_no_trigger_and_one_limit(upgraded: SyncPrefectClient) -> None:
    assert limit_of(upgraded, OLD_RUN) != limit_of(upgraded, RUN)
    assert retire_old_names() == {"timezone": "UTC"}
    assert limit_of(upgraded, OLD_RUN) == limit_of(upgraded, RUN) is not None
    assert enabled_triggers(upgraded, OLD_RETRAIN) == ["by a user"]
    (schedule,) = upgraded.read_deployment_by_name(OLD_RUN).schedules
    assert schedule.active, "`intent doctor` names it first"


def test_the_doctor_names_old_schedules_and_pauses_them(
    upgraded: SyncPrefectClient, platform: Settings
) -> None:
    def examine(*, dry_run: bool) -> list[Diagnosis]:
        return list(check_deployments(Examination(platform, dry_run=dry_run)))

    named = [diagnosis.what for diagnosis in examine(dry_run=True)]
    assert f"deployment {OLD_RUN}, now named {RUN}, has an active schedule" in named
    assert f"deployment {OLD_RETRAIN}, now named {RETRAIN}, is started by events" in named
    assert {diagnosis.outcome for diagnosis in examine(dry_run=False)} == {"repaired"}
    (schedule,) = upgraded.read_deployment_by_name(OLD_RUN).schedules
    assert not schedule.active
    assert examine(dry_run=False) == []
