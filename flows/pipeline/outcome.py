"""What came of a run, and how long its steps took."""

import contextlib
import time
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.manifest import DatasetManifest
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decision import GateDecision
from intent_core.models.artifact import ModelArtifact
from tasks.serving.state import ServedModel
from tasks.tracking.record import RecordedRun


class StepTime(BaseModel):
    """How long a step took; a reused one found its work done by an earlier run."""

    model_config = ConfigDict(extra="forbid")

    name: str
    seconds: float = 0.0
    reused: bool = False


class PipelineOutcome(BaseModel):
    """What came of a run; kept in the store under `outcomes/<flow run id>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: GateDecision
    report: EvaluationReport
    dataset: DatasetManifest
    artifact: ModelArtifact
    recorded: RecordedRun | None
    """None while MLflow does not answer; the record waits in the store."""
    served: ServedModel | None
    """What the public address serves now, whichever way it was decided."""
    steps: tuple[StepTime, ...]


@contextlib.contextmanager
def timed(name: str, steps: list[StepTime]) -> Iterator[StepTime]:
    """Measure a step's wall clock."""
    step = StepTime(name=name)
    started = time.monotonic()
    yield step
    step.seconds = round(time.monotonic() - started, 1)
    steps.append(step)
