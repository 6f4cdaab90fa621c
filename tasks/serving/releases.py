"""Releases: models that a gate has accepted, read from the store without Prefect and MLflow."""

import json
import re
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.errors import ConfigError, StorageError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import OldPattern
from tasks.serving.golden import GoldenAnswer, GoldenAnswers
from tasks.serving.state import Threshold
from tasks.settings import Settings
from tasks.storage.layout import golden_prefix, release_prefix
from tasks.storage.step_results import get_store, read_finished, require_finished

_CONTENT_NAME = re.compile(r"intent-[0-9a-f]{12}")


class Release(BaseModel):
    """An accepted model and its serve configuration; stored under `releases/<content name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: ModelArtifact
    serve: ServeConfig
    project: str
    version: str
    intents: tuple[str, ...] = ()
    """The intents of its dataset; an answer with any other intent is invalid."""
    pattern: OldPattern = None
    abstain_below: Threshold = None
    reason: str
    """Why it was accepted."""
    asked_at: AwareDatetime | None = None
    """When its run was first requested, before any retries; None if an earlier version wrote it."""


def require_release(settings: Settings, name: str) -> Release:
    """Return the release of that content name. Raises `ConfigError` if there is none."""
    release = read_finished(get_store(settings), release_prefix(name), Release)
    if release is None:
        raise ConfigError(
            f"no gate has accepted a model named {name!r}: pass a content name such as "
            "intent-0123456789ab from the run's page or `intent status`"
        )
    return release


def hours_behind(settings: Settings, champion: str, project: str, asked_at: datetime) -> float:
    """Return how many hours before the champion's run a run was requested; 0 if not before."""
    release = read_finished(get_store(settings), release_prefix(champion), Release)
    if release is None or release.project != project or release.asked_at is None:
        return 0.0
    return max(0.0, (release.asked_at - asked_at).total_seconds() / 3600)


def read_threshold(settings: Settings, artifact: ModelArtifact) -> float | None:
    """Return the confidence threshold of the model's evaluation, if its gate accepted it."""
    release = read_finished(get_store(settings), release_prefix(artifact.name), Release)
    return release.abstain_below if release else None


def read_golden(
    settings: Settings, artifact: ModelArtifact, serve: ServeConfig
) -> tuple[GoldenAnswer, ...]:
    """Return the model's golden answers. Raises `StorageError` if its evaluation stored none."""
    prefix = golden_prefix(artifact, serve)
    return require_finished(get_store(settings), prefix, GoldenAnswers).answers


def find_content_names(document: bytes, key: str) -> set[str]:
    """Return all content names in a JSON document, which any version may have written."""
    try:
        return set(_CONTENT_NAME.findall(json.dumps(json.loads(document))))
    except ValueError as error:
        raise StorageError(
            f"{key} cannot be read as JSON: restore or delete it before models can be deleted"
        ) from error
