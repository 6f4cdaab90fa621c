"""Find the models that must be kept: served, on trial, awaiting approval, or used by a run.

If a server does not answer or a state cannot be read, nothing may be deleted.
"""

from typing import NamedTuple

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException

from intent_core.errors import TrackingError
from tasks.orchestration.prefect_client import explain
from tasks.orchestration.run_liveness import FLOWS, has_live_run
from tasks.serving.releases import find_content_names
from tasks.serving.targets import protected_models
from tasks.settings import Settings
from tasks.storage.layout import SERVING, UNRECORDED
from tasks.storage.objects import require_readable
from tasks.storage.step_results import get_store
from tasks.tracking.registry import ARTIFACT_TAG
from tasks.tracking.runs import make_client, mlflow_errors

_ACTIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_WAITING = [StateType.SCHEDULED, StateType.PAUSED]
_MOST_RUNS = 200


class Protected(NamedTuple):
    """What must be kept according to Prefect and MLflow."""

    models: frozenset[str] = frozenset()
    """Content names of models with a registry alias, or awaiting approval."""
    exports: frozenset[str] = frozenset()
    """URIs of exports that scheduled or paused runs will read."""
    problem: str = ""
    """Why nothing may be deleted from the store now; empty if deletion is allowed."""


def find_protected(settings: Settings) -> Protected:
    """Query Prefect and MLflow; if either fails, protect everything."""
    try:
        with get_client(sync_client=True) as client:
            if client.api_healthcheck() is not None:
                return Protected(problem="Prefect does not answer: running runs are unknown")
            runs = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(
                        type=FlowRunFilterStateType(any_=[*_ACTIVE, *_WAITING])
                    )
                ),
                limit=_MOST_RUNS,
            )
    except (httpx.HTTPError, PrefectException) as error:
        return Protected(problem=explain(settings, error))
    busy = [run for run in runs if run.state_type in _ACTIVE]
    if busy or has_live_run(settings) or len(runs) == _MOST_RUNS:
        name = busy[0].name if busy else "of this home"
        return Protected(problem=f"a run is in progress ({name}): it may need any model")
    try:
        exports = frozenset(str(run.parameters.get("export_uri", "")) for run in runs)
        return Protected(_find_named(settings), exports)
    except TrackingError as error:
        return Protected(
            problem=f"cannot read from MLflow which models await approval or are served: {error}"
        )


def find_served(settings: Settings) -> set[str]:
    """Return the content names of models that this machine or any fleet of the store needs.

    These are the served model, the previous one, those on trial, and those not yet recorded in
    MLflow. Raises `StorageError` for a document that cannot be read.
    """
    for area in (SERVING, UNRECORDED):
        require_readable(get_store(settings), area.prefix)
    names, store = protected_models(settings), get_store(settings)
    for waiting in store.scan(UNRECORDED.prefix):
        names |= find_content_names(store.read(waiting.key), waiting.key)
    return names


def _find_named(settings: Settings) -> frozenset[str]:
    with mlflow_errors(settings.mlflow_tracking_url):
        client = make_client(settings)
        aliased = {
            (model.name, str(version))
            for model in client.search_registered_models()
            for version in model.aliases.values()
        }
        return frozenset(
            version.tags[ARTIFACT_TAG]
            for version in client.search_model_versions()
            if ARTIFACT_TAG in version.tags
            and (
                (version.name, str(version.version)) in aliased
                or version.tags.get("intent.verdict") == "waits"
            )
        )
