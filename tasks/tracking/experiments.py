"""MLflow's experiments: one per project, which opens on a table of its runs."""

import json
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from intent_core.errors import TrackingError
from tasks.settings import Settings
from tasks.tracking.runs import TRAINING_PAGES, make_client, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

VIEW = "intent-runs"
"""Name of the saved view. It stays as the user changed it: other columns need another name."""
_COLUMNS = {
    "attributes.`Run Name`": 320,
    "tags.`intent.verdict`": 110,
    "metrics.`intent_accuracy`": 135,
    "metrics.`parameter_accuracy`": 160,
    "tags.`intent.champion`": 190,
    "attributes.`Dataset`": 240,
    "params.`train.base_model`": 180,
    "duration": 95,
    "attributes.`User`": 95,
    "runDateAndNestInfo": 135,
}
"""Columns of the table in their order, with their widths in pixels."""


def ensure_experiment(client: "MlflowClient", name: str) -> str:
    """Return the id of the experiment; create it, its kind and its view if they do not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        created: str = client.create_experiment(name, tags=_tags())
        return created
    identity: str = experiment.experiment_id
    for key, value in _tags().items():
        if key not in experiment.tags:
            client.set_experiment_tag(identity, key, value)
    return identity


def runs_url(settings: Settings, experiment_id: str) -> str:
    """Return the address of the table of runs, with the columns that a reviewer compares."""
    experiment = f"{settings.mlflow_tracking_url}/#/experiments/{quote(experiment_id, safe='')}"
    return f"{experiment}/runs?{TRAINING_PAGES}&viewStateShareKey={VIEW}"


def find_runs_url(settings: Settings, project: str) -> str:
    """Return the address of the project's runs; MLflow's own if that is not known."""
    url = settings.mlflow_tracking_url
    try:
        with mlflow_errors(url):
            experiment = make_client(settings).get_experiment_by_name(project) if project else None
    except TrackingError as error:
        logger.debug("%s", error)
        return url
    return runs_url(settings, experiment.experiment_id) if experiment else url


def _tags() -> dict[str, str]:
    """Return the tags by which MLflow's pages know an experiment's kind and saved views."""
    state = {
        "selectedColumns": [column for column in _COLUMNS if "`" in column],
        "columnOrder": list(_COLUMNS),
        "columnWidths": _COLUMNS,
    }
    view = {"name": "Verdicts", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
    }
