"""A training's curves in MLflow while it trains, in the run that will hold its whole story."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from intent_core.errors import ServiceError, TrackingError
from intent_core.training.protocol import Progress
from tasks.orchestration.run_liveness import current_root_run
from tasks.settings import Settings
from tasks.tracking.runs import (
    ensure_experiment,
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
    """Sends what a training reports, some seconds' worth at a time.

    A tracking server that fails costs the curves, not the training: they are logged again with the
    finished run, whole.
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
        """One line of the program's progress."""
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
        """What has gathered."""
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        with self._or_quiet():
            if self._client and waiting:
                self._client.log_batch(self._run_id, metrics=waiting)

    def end(self, status: str) -> None:
        """A run that left no model: `KILLED` when it was stopped, else `FAILED`."""
        with self._or_quiet():
            if self._client:
                self._client.set_terminated(self._run_id, status)

    @contextlib.contextmanager
    def _or_quiet(self) -> Iterator[None]:
        """One warning, and no further request: each would wait its time-out."""
        try:
            with mlflow_errors(self._url):
                yield
        except TrackingError as error:
            self._client = None
            logger.warning("no live curves, they come when the run is recorded: %s", error)


@contextlib.contextmanager
def live_curves(settings: Settings, project: str, key: str) -> Iterator[LiveCurves | None]:
    """Curves for the training named `key`; None without a project to show them in."""
    if not project:
        yield None
        return
    curves = LiveCurves(settings, project, key)
    try:
        yield curves
    except ServiceError:
        # What passes is tried again, and the next try goes on in this run.
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
