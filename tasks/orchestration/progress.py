"""Report progress of long work: a bar in the terminal, an artifact in Prefect, log lines."""

import contextlib
import logging
import time
from collections.abc import Iterator
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

logger = logging.getLogger(__name__)

_ARTIFACT_EVERY_S = 3.0
_LOG_EVERY_S = 20.0


class Tracker:
    """Reports progress: to the terminal at once, to Prefect every few seconds."""

    def __init__(self, name: str, key: str, bar: Progress | None) -> None:
        self._name = name
        self._bar = bar
        self._row = bar.add_task(name, total=None, message="") if bar else None
        self._artifact: UUID | None = None
        with failures_logged():
            self._artifact = create_progress_artifact(0.0, key=key, description=name)  # type: ignore[assignment]
        self._sent = self._logged = time.monotonic()

    def update(self, done: float, total: float, message: str = "") -> None:
        """Report `done` of `total`, in any unit; `message` is shown next to the bar."""
        if self._bar and self._row is not None:
            self._bar.update(self._row, completed=done, total=total, message=message)
        now = time.monotonic()
        if now - self._sent > _ARTIFACT_EVERY_S or done >= total:
            self._sent = now
            share = 100.0 * done / total if total else 0.0
            if self._artifact:
                with failures_logged():
                    update_progress_artifact(self._artifact, progress=share)
        if not self._bar and now - self._logged > _LOG_EVERY_S:
            self._logged = now
            logger.info("%s: %g of %g %s", self._name, done, total, message)


@contextlib.contextmanager
def failures_logged() -> Iterator[None]:
    """Log any exception instead of raising it: failed progress reports must not stop a training."""
    try:
        yield
    except Exception as error:
        logger.warning("failed to send progress to Prefect: %s", error)


@contextlib.contextmanager
def track(name: str, key: str) -> Iterator[Tracker]:
    """Yield a `Tracker` of one task; `key` names its artifact (lower case and dashes)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Tracker(name, key, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=console) as bar:
        yield Tracker(name, key, bar)
