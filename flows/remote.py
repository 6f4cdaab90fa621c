"""The only switch between here and elsewhere: a deployment when one is named, else a call."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import CancelledRun, ObjectNotFound

from intent_core.errors import ConfigError, DataError, ServiceError, TrainingError


def submit(deployment: str, **options: Any) -> FlowRun:
    """`run_deployment`; raises `ConfigError` where the server has no deployment of that name."""
    try:
        return cast(FlowRun, run_deployment(deployment, **options))
    except ObjectNotFound as error:
        raise ConfigError(
            f"Prefect has no deployment {deployment!r}: `prefect --no-prompt deploy --all` in the "
            "checkout makes those of prefect.yaml"
        ) from error


def run_here_or_remote(
    flow: Callable[..., Any], deployment: str, parameters: Mapping[str, Any]
) -> None:
    """Run a flow to its end, on the pool of `deployment` or in this process.

    References travel, never results: the caller reads what the flow has finished from the store.
    A flow that is run twice does its work once, since finished steps are found by content.
    """
    if not deployment:
        flow(**parameters)
        return
    run = submit(
        deployment, parameters=dict(parameters), as_subflow=True, timeout=None, poll_interval=2
    )
    state = run.state
    if state is None or state.is_cancelled():
        raise CancelledRun(f"{deployment} was cancelled")
    if not state.is_completed():
        # The child has retried what was worth it; its own log has the whole story.
        message = f"{deployment} ended as {state.name}: {state.message}"
        kinds = (ConfigError, DataError, TrainingError)
        raise next((k for k in kinds if f"{k.__name__}:" in message), ServiceError)(message)
