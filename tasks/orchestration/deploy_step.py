"""The step that `prefect deploy` runs before it creates a deployment of `prefect.yaml`."""

from prefect.client.orchestration import get_client

from tasks.orchestration.old_deployments import find_leftovers
from tasks.settings import get_settings


def retire_old_names() -> dict[str, str]:
    """End what deployments with old names do, except their schedules; return the time zone.

    `intent doctor` names active schedules before it pauses them: the new one may be off.
    """
    settings = get_settings()
    with get_client(sync_client=True) as client:
        for leftover in list(find_leftovers(client)):
            if not leftover.is_schedule:
                leftover.end()
    return {"timezone": settings.timezone}
