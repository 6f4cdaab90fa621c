"""What is served: the model at the public address and the previous one, in `serving.json`."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.files import write_atomically
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.serving.golden import GoldenAnswer
from tasks.settings import Settings


class ServedModel(BaseModel):
    """What answers at the public address, and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: ModelArtifact
    serve: ServeConfig
    endpoint: str
    alias: str
    version: str
    """Version in the MLflow registry; "" while it is not registered."""
    project: str
    golden: tuple[GoldenAnswer, ...] = ()
    """What it must answer wherever it is served."""
    since: AwareDatetime


class ServingState(BaseModel):
    """The served model and the one before it, which a rollback returns to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None

    def model_names(self) -> set[str]:
        return {model.artifact.name for model in (self.current, self.previous) if model}


class Drift(NamedTuple):
    """What is served differs from what should be."""

    problem: str
    repair: str
    """What `reconcile` does about it."""


def new_served_model(
    settings: Settings,
    artifact: ModelArtifact,
    serve: ServeConfig,
    *,
    project: str,
    version: str,
    golden: Sequence[GoldenAnswer],
) -> ServedModel:
    """The model as it is to be served from now on."""
    return ServedModel(
        artifact=artifact,
        serve=serve,
        endpoint=settings.endpoint,
        alias=serve.alias,
        version=version,
        project=project,
        golden=tuple(golden),
        since=datetime.datetime.now(datetime.UTC),
    )


def is_same(served: ServedModel, other: ServedModel) -> bool:
    """Is it the same model, served in the same way under the same names?"""
    return served.model_copy(update={"since": other.since}) == other


def read_state(settings: Settings) -> ServingState:
    """What this machine serves."""
    path = settings.layout.serving_state
    return ServingState.model_validate_json(path.read_bytes()) if path.exists() else ServingState()


def write_state(settings: Settings, state: ServingState) -> None:
    write_atomically(settings.layout.serving_state, state.model_dump_json(indent=1))
