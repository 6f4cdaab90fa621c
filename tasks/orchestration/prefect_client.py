"""A Prefect client that fails at once when the server does not answer."""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

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
            if is_refusal(problem):
                raise refused_login(settings) from problem
            raise ServiceError(
                f"no Prefect server at {settings.prefect_api_url} ({problem}): start the embedded "
                "services with `intent up`, or set INTENT_PREFECT_URL"
            )
        try:
            client.read_flows(limit=1)  # the health page needs no login
            yield client
        except PrefectHTTPStatusError as error:
            if not is_refusal(error):
                raise
            raise refused_login(settings) from error


@contextlib.contextmanager
def open_client(settings: Settings, timeout_s: float, retries: int) -> Iterator[SyncPrefectClient]:
    """Yield a Prefect client that ends a request after `timeout_s`, and retries it so often."""
    limits = {PREFECT_API_URL: settings.prefect_api_url, PREFECT_CLIENT_MAX_RETRIES: retries}
    httpx_settings = {"timeout": timeout_s}
    with temporary_settings(limits), get_client(httpx_settings, sync_client=True) as client:
        yield client


def is_refusal(error: BaseException) -> bool:
    """Return whether a server refused our login, or its user lacks the permission."""
    refusals = HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in refusals


def explain(settings: Settings, error: Exception) -> str:
    """Return a sentence on a failure of Prefect's client."""
    return str(refused_login(settings)) if is_refusal(error) else f"Prefect failed: {error}"


def refused_login(settings: Settings) -> ConfigError:
    """Return the error for a refused login: which variable to set."""
    remedy = (
        "set PREFECT_API_AUTH_STRING to `user:password` of that server, or PREFECT_API_KEY to a "
        "key of Prefect Cloud"
        if settings.prefect_url
        else f"it was started with another login than that in {settings.layout.prefect_login}: "
        "restart it with `intent down` and `intent up`"
    )
    return ConfigError(f"Prefect at {settings.prefect_api_url} refused our login: {remedy}")
