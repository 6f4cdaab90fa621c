"""A Prefect client that fails at once when the server does not answer."""

import contextlib
from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient, get_client

from intent_core.errors import ServiceError
from tasks.settings import Settings


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[SyncPrefectClient]:
    """Yield a Prefect client. Raises `ServiceError` when the server does not answer."""
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise ServiceError(
                f"no Prefect server at {settings.prefect_api_url} ({problem}): start the embedded "
                "services with `intent up`, or set INTENT_PREFECT_URL"
            )
        yield client
