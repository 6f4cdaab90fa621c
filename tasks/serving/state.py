"""The serving state, `serving.json`: the model at the public address and the previous one."""

import datetime
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from intent_core.files import write_atomically
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import OldPattern
from tasks.serving.golden import GoldenAnswer
from tasks.settings import Settings


def is_none(value: object) -> bool:
    """Exclude a field that an earlier version does not know, unless it is used."""
    return value is None


Threshold = Annotated[float | None, Field(ge=0, le=1, exclude_if=is_none)]
"""The confidence below which a model's answers count as `out_of_scope()` in its evaluation."""


class ServedModel(BaseModel):
    """A model at the public address, and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: ModelArtifact
    serve: ServeConfig
    endpoint: str
    alias: str
    version: str
    """Version in the MLflow registry; "" while it is not registered."""
    project: str
    golden: tuple[GoldenAnswer, ...] = ()
    """Answers that it must give wherever it is served."""
    pattern: OldPattern = None
    abstain_below: Threshold = None
    since: AwareDatetime
    """When requests were switched to it."""


class ServingState(BaseModel):
    """The served model and the previous model, which a rollback switches to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None

    def model_names(self) -> set[str]:
        return {model.artifact.name for model in (self.current, self.previous) if model}


class Drift(NamedTuple):
    """A difference between the serving state and what is really served."""

    problem: str
    repair: str
    """What `reconcile` does to repair it."""


def new_served_model(
    settings: Settings,
    artifact: ModelArtifact,
    serve: ServeConfig,
    *,
    project: str,
    version: str,
    golden: Sequence[GoldenAnswer],
    abstain_below: float | None = None,
) -> ServedModel:
    """Return a `ServedModel` under the current settings; the switch to it sets `since` again."""
    return ServedModel(
        artifact=artifact,
        serve=serve,
        endpoint=settings.endpoint,
        alias=serve.alias,
        version=version,
        project=project,
        golden=tuple(golden),
        abstain_below=abstain_below,
        since=datetime.datetime.now(datetime.UTC),
    )


def since_now(served: ServedModel) -> ServedModel:
    """Return the model as one to which requests have just been switched."""
    return served.model_copy(update={"since": datetime.datetime.now(datetime.UTC)})


def is_same(served: ServedModel, other: ServedModel) -> bool:
    """Whether two served models differ only in when their serving started."""
    return served.model_copy(update={"since": other.since}) == other


def read_state(settings: Settings) -> ServingState:
    """Read this machine's serving state; empty if nothing was ever promoted."""
    path = settings.layout.serving_state
    return ServingState.model_validate_json(path.read_bytes()) if path.exists() else ServingState()


def write_state(settings: Settings, state: ServingState) -> None:
    write_atomically(settings.layout.serving_state, state.model_dump_json(indent=1))
