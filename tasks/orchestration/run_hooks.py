"""Of each flow run: its project's tag, a link to MLflow, and why its parameters crashed it."""

import logging
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.states import Failed

logger = logging.getLogger(__name__)

RUNS_LABEL = "intent-runs"
"""Label of a flow run with the address of its project's verdicts; notifications read it."""


def tag_with_project(project: str) -> None:
    """Tag a deployment's run with its project: `intent watch` starts it again if it is killed."""
    if not runtime.deployment.id:
        return  # no worker could start it again
    with get_client(sync_client=True) as client:
        run_id = UUID(runtime.flow_run.id)
        tags = {*client.read_flow_run(run_id).tags, f"project:{project}"}
        client.update_flow_run(run_id, tags=sorted(tags))


def label_with_runs(url: str) -> None:
    """Label the current flow run with the address of its project's verdicts."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(runtime.flow_run.id), {RUNS_LABEL: url})


def explain_crash(flow: Any, flow_run: Any, state: Any) -> None:
    """A flow's `on_crashed` hook, called by the worker: name the parameters the flow does not have.

    Prefect ends the process of such a run before the flow starts, without a message.
    """
    known = flow.parameters.properties
    unknown = sorted(set(flow_run.parameters) - set(known))
    if not unknown:
        return
    message = (
        f"ConfigError: {flow.name} has no parameter {', '.join(map(repr, unknown))}; it has: "
        f"{', '.join(known)}. Keys of the recipe belong into `overrides`"
    )
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Failed(message=message), force=True)
    logger.error("run %s: %s", flow_run.id, message)
