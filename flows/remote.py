"""Run a flow as a Prefect deployment, or in this process if no deployment is configured."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import CancelledRun, ObjectNotFound

from intent_core.errors import ConfigError, DataError, ServiceError, TrainingError


def submit(deployment: str, **options: Any) -> FlowRun:
    """Call `run_deployment`. Raises `ConfigError` if the server has no such deployment."""
    try:
        return cast(FlowRun, run_deployment(deployment, **options))
    except ObjectNotFound as error:
        raise ConfigError(
            f"Prefect has no deployment {deployment!r}: run `prefect --no-prompt deploy --all` in "
            "the checkout to create those of prefect.yaml"
        ) from error


def run_here_or_remote(
    flow: Callable[..., Any], deployment: str, parameters: Mapping[str, Any]
) -> None:
    """Run a flow and wait for it: as the run of a deployment, or in this process.

    Args:
        flow: the flow to call if `deployment` is empty.
        deployment: name of a deployment such as `finetune/fine-tune`; empty: this process.
        parameters: the flow's parameters. They contain keys of the store, never data.

    The flow's result is not returned; the caller reads it from the store. Running a flow twice
    repeats no work: finished steps are found by content.

    Raises:
        CancelledRun: the deployment's run was cancelled.
        ConfigError, DataError, TrainingError: the run failed with that error.
        ServiceError: the run failed for any other reason.
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
        # Not retried here: the child run has retried already. Its log has the details.
        message = f"{deployment} ended as {state.name}: {state.message}"
        kinds = (ConfigError, DataError, TrainingError)
        raise next((k for k in kinds if f"{k.__name__}:" in message), ServiceError)(message)
