"""Create the work pools of `prefect.yaml` on the embedded Prefect server."""

import copy
import json
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists

from tasks.settings import CHECKOUT

# prefect.yaml limits the gpu pool's concurrent runs, per deployment.
POOLS = ("cpu", "gpu")
_COMMAND = "{{ command }}"  # offered by the templates of earlier versions
TEMPLATE = CHECKOUT / "deployments" / "work_pools" / "process.json"


def ensure_work_pools() -> None:
    """Create missing work pools, by the API: Prefect's CLI resolves a host on the internet."""
    template: dict[str, Any] = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    with get_client(sync_client=True) as client:
        for name in POOLS:
            pool = WorkPoolCreate(name=name, type="process", base_job_template=template)
            try:
                client.create_work_pool(pool)
            except ObjectAlreadyExists:
                # Set the template only on pools created without one; keep the user's changes.
                present = client.read_work_pool(name).base_job_template
                wanted = _without_command(present) if present else template
                if wanted != present:
                    client.update_work_pool(name, WorkPoolUpdate(base_job_template=wanted))


def _without_command(template: dict[str, Any]) -> dict[str, Any]:
    """Remove the variable with which a run could execute any command of a form as the worker."""
    if template["job_configuration"].get("command") != _COMMAND:
        return template
    template = copy.deepcopy(template)
    del template["job_configuration"]["command"]
    template["variables"]["properties"].pop("command", None)
    return template
