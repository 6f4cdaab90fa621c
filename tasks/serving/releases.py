"""What a gate has accepted, as it is in the store; read without Prefect and MLflow."""

import json
import re
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.errors import ConfigError, StorageError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.serving.golden import GoldenAnswer, GoldenAnswers
from tasks.settings import Settings
from tasks.storage.layout import golden_prefix, release_prefix
from tasks.storage.step_results import get_store, read_finished, require_finished

_CONTENT_NAME = re.compile(r"intent-[0-9a-f]{12}")


class Release(BaseModel):
    """A model that was accepted, and how it is to be served; kept under `releases/<its name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: ModelArtifact
    serve: ServeConfig
    project: str
    version: str
    intents: tuple[str, ...] = ()
    """Those of its dataset: an answer with another one is none."""
    reason: str
    """Why it was accepted."""
    asked_at: AwareDatetime | None = None
    """When its run was asked for, however often that was started; None in earlier versions'."""


def require_release(settings: Settings, name: str) -> Release:
    """What was accepted under that content name. Raises `ConfigError` when nothing was."""
    release = read_finished(get_store(settings), release_prefix(name), Release)
    if release is None:
        raise ConfigError(
            f"{name!r} is no model that a gate has accepted: give its content name, "
            "as intent-0123456789ab, from the run's page or `intent status`"
        )
    return release


def hours_behind(settings: Settings, champion: str, project: str, asked_at: datetime) -> float:
    """How much earlier than the champion's a run of the same project was asked for; 0 if not."""
    release = read_finished(get_store(settings), release_prefix(champion), Release)
    if release is None or release.project != project or release.asked_at is None:
        return 0.0
    return max(0.0, (release.asked_at - asked_at).total_seconds() / 3600)


def read_golden(
    settings: Settings, artifact: ModelArtifact, serve: ServeConfig
) -> tuple[GoldenAnswer, ...]:
    """Those the evaluation left. Raises `StorageError` for a model that was not evaluated so."""
    prefix = golden_prefix(artifact, serve)
    return require_finished(get_store(settings), prefix, GoldenAnswers).answers


def find_content_names(document: bytes, key: str) -> set[str]:
    """Every model that a JSON document names, whichever version of this software wrote it."""
    try:
        return set(_CONTENT_NAME.findall(json.dumps(json.loads(document))))
    except ValueError as error:
        raise StorageError(f"{key} cannot be read: see to it before models are removed") from error
