"""A Prefect client that fails at once when the server does not answer."""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError

from intent_core.errors import ConfigError, ServiceError
from tasks.settings import Settings


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[SyncPrefectClient]:
    """Yield a Prefect client.

    Raises `ServiceError` when the server does not answer, `ConfigError` when it refuses our login.
    """
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise ServiceError(
                f"no Prefect server at {settings.prefect_api_url} ({problem}): start the embedded "
                "services with `intent up`, or set INTENT_PREFECT_URL"
            )
        _require_login(settings, client)
        yield client


def _require_login(settings: Settings, client: SyncPrefectClient) -> None:
    """Raise `ConfigError` when the server refuses our login; its health page needs none."""
    try:
        client.api_version()
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.UNAUTHORIZED:
            raise
        remedy = (
            "set PREFECT_API_AUTH_STRING to `user:password` of that server"
            if settings.prefect_url
            else f"it was started with another login than that in {settings.layout.prefect_login}: "
            "restart it with `intent down` and `intent up`"
        )
        raise ConfigError(
            f"Prefect at {settings.prefect_api_url} refused our login: {remedy}"
        ) from error
