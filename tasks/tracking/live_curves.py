"""Training curves in MLflow during the training, in the same run that the pipeline completes."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from intent_core.errors import ServiceError, TrackingError
from intent_core.training.protocol import Progress
from tasks.orchestration.run_liveness import current_root_run
from tasks.settings import Settings
from tasks.tracking.experiments import ensure_experiment
from tasks.tracking.runs import (
    find_open_run,
    make_client,
    mlflow_errors,
    open_run,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

_EVERY_S = 5.0


class LiveCurves:
    """Sends the progress of a training to MLflow, in batches every few seconds.

    If MLflow fails, the training continues, and the complete curves are logged with the finished
    run.
    """

    def __init__(self, settings: Settings, project: str, key: str) -> None:
        self._url = settings.mlflow_tracking_url
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()
        self._client: MlflowClient | None = make_client(settings)
        self._run_id = ""
        with self._or_quiet():
            experiment = ensure_experiment(self._client, project)
            name, flow_run = f"{project}, training", current_root_run()
            run_id = find_open_run(self._client, experiment, key, flow_run)
            self._run_id = run_id or open_run(self._client, experiment, name, key, flow_run)

    def add(self, progress: Progress) -> None:
        """Add one line of the training program's progress."""
        if progress.loss is None:
            return
        from mlflow.entities import Metric

        name = "train_loss" if progress.phase == "training" else "validation_loss"
        values = {name: progress.loss}
        if progress.exact_match is not None:
            values["validation_exact_match"] = progress.exact_match
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, value, now, progress.step) for key, value in values.items()]
        if time.monotonic() - self._sent > _EVERY_S:
            self.send()

    def send(self) -> None:
        """Send the collected points."""
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        with self._or_quiet():
            if self._client and waiting:
                self._client.log_batch(self._run_id, metrics=waiting)

    def end(self, status: str) -> None:
        """End a run without a model: `KILLED` if it was stopped, else `FAILED`."""
        with self._or_quiet():
            if self._client:
                self._client.set_terminated(self._run_id, status)

    @contextlib.contextmanager
    def _or_quiet(self) -> Iterator[None]:
        """Log one warning and send no more requests, since each would wait for its timeout."""
        try:
            with mlflow_errors(self._url):
                yield
        except TrackingError as error:
            self._client = None
            logger.warning(
                "live curves disabled; they will be logged when the run is recorded: %s", error
            )


@contextlib.contextmanager
def live_curves(settings: Settings, project: str, key: str) -> Iterator[LiveCurves | None]:
    """Log the curves of the training with this key; yields None without a project."""
    if not project:
        yield None
        return
    curves = LiveCurves(settings, project, key)
    try:
        yield curves
    except ServiceError:
        # A transient error is retried, and the retry continues this run.
        curves.send()
        curves.end("KILLED")
        raise
    except Exception:
        curves.send()
        curves.end("FAILED")
        raise
    except BaseException:
        curves.send()
        curves.end("KILLED")
        raise
    curves.send()
