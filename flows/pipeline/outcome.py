"""The outcome of a run and the time of its steps."""

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

REJECTED = "Rejected"
"""Name of the final state of a run whose model the gate, or a person, did not accept."""


class StepTime(BaseModel):
    """The time of a step; `reused` if an earlier run had done its work."""

    model_config = ConfigDict(extra="forbid")

    name: str
    seconds: float = 0.0
    reused: bool = False


class PipelineOutcome(BaseModel):
    """The outcome of a run, stored under `outcomes/<flow run id>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: GateDecision
    report: EvaluationReport
    dataset: DatasetManifest
    artifact: ModelArtifact
    recorded: RecordedRun | None
    """None if MLflow did not answer; the record then waits in the store."""
    served: ServedModel | None
    """The served model after the run, promoted or not."""
    steps: tuple[StepTime, ...]


@contextlib.contextmanager
def timed(name: str, steps: list[StepTime]) -> Iterator[StepTime]:
    """Measure the wall-clock time of a step and append it to `steps`."""
    step = StepTime(name=name)
    started = time.monotonic()
    yield step
    step.seconds = round(time.monotonic() - started, 1)
    steps.append(step)
