"""The work pools that `prefect.yaml` deploys to, on the embedded Prefect server."""

import json
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists

from tasks.settings import CHECKOUT

# The gpu pool's runs are limited per deployment, in prefect.yaml.
POOLS = ("cpu", "gpu")
TEMPLATE = CHECKOUT / "deployments" / "work_pools" / "process.json"


def ensure_work_pools() -> None:
    """Make what is missing. By the API: the command line looks a host up on the internet."""
    template: dict[str, Any] = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    with get_client(sync_client=True) as client:
        for name in POOLS:
            pool = WorkPoolCreate(name=name, type="process", base_job_template=template)
            try:
                client.create_work_pool(pool)
            except ObjectAlreadyExists:
                # One made before there was a template; what a person has set there stays.
                if not client.read_work_pool(name).base_job_template:
                    client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
