"""A client of the Prefect server, for whoever must know at once that none answers."""

import contextlib
from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient, get_client

from intent_core.errors import ServiceError
from tasks.settings import Settings


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of the Prefect server. Raises `ServiceError` when none answers."""
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise ServiceError(
                f"no Prefect server at {settings.prefect_api_url} ({problem}): start the embedded "
                "services with `intent up`, or set INTENT_PREFECT_URL"
            )
        yield client
