"""The work pools that `prefect.yaml` deploys to, on the embedded Prefect server."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

# The gpu pool's runs are limited per deployment, in prefect.yaml.
POOLS = ("cpu", "gpu")


def ensure_work_pools() -> None:
    """Make what is missing. By the API: the command line looks a host up on the internet."""
    with get_client(sync_client=True) as client:
        for name in POOLS:
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type="process"))
            except ObjectAlreadyExists:
                continue
