"""A training inside a job on PAI: its request, its execution, and its results in the store.

The job reaches the store through its role, but neither Prefect nor MLflow. The run that waits for
the job reads the progress from the store and reports it.
"""

import logging
import threading
from types import TracebackType

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import (
    ConfigError,
    DataError,
    IntentError,
    ServiceError,
    StorageError,
    TrainingError,
)
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import TrainConfig
from intent_core.training.protocol import FAULT_FILE, PROGRESS_FILE, library_versions
from tasks.settings import Settings
from tasks.storage.objects import MissingObjectError, ObjectStore
from tasks.storage.step_results import get_store, require_finished, work_folder
from tasks.training.finetune import finetune_model
from tasks.training.finished import training_prefix

logger = logging.getLogger(__name__)

_REQUEST_FILE = "request.json"
_EVERY_S = 5.0
_KINDS = (ConfigError, DataError, TrainingError, ServiceError)


class TrainingRequest(BaseModel):
    """The request that the job reads; the job's command contains only its prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_uri: str
    train: TrainConfig
    versions: dict[str, str]
    """Versions of the libraries that affect a model, in the run's environment. The job's libraries
    must have the same versions."""


class JobFault(BaseModel):
    """Why the job ended without a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    message: str


def put_request(
    store: ObjectStore, prefix: str, dataset: DatasetManifest, train: TrainConfig
) -> None:
    """Write the request for a training, and delete the results of an earlier job."""
    request = TrainingRequest(dataset_uri=dataset.uri, train=train, versions=library_versions())
    for name in (FAULT_FILE, PROGRESS_FILE):
        store.delete(f"{prefix}/{name}")
    store.put(f"{prefix}/{_REQUEST_FILE}", request.model_dump_json(indent=1).encode())


def read_progress(store: ObjectStore, prefix: str) -> bytes:
    """Return the training program's progress lines so far."""
    try:
        return store.read(f"{prefix}/{PROGRESS_FILE}")
    except MissingObjectError:
        return b""


def read_fault(store: ObjectStore, prefix: str) -> IntentError | None:
    """Return the error that ended the job; None if the job did not report one."""
    try:
        fault = JobFault.model_validate_json(store.read(f"{prefix}/{FAULT_FILE}"))
    except MissingObjectError:
        return None
    kind = next((kind for kind in _KINDS if kind.__name__ == fault.kind), TrainingError)
    return kind(fault.message)


def do_training(settings: Settings, prefix: str) -> ModelArtifact:
    """Run the training inside the job; store the model or the reason of the failure."""
    store = get_store(settings)
    try:
        request = TrainingRequest.model_validate_json(store.read(f"{prefix}/{_REQUEST_FILE}"))
        dataset = require_finished(store, request.dataset_uri, DatasetManifest)
        _require_same(request, training_prefix(dataset, request.train), prefix)
        with _ProgressMirror(store, prefix, settings):
            artifact: ModelArtifact = finetune_model.fn(dataset, request.train)
            return artifact
    except IntentError as error:
        kind = next(kind for kind in (*_KINDS, IntentError) if isinstance(error, kind))
        fault = JobFault(kind=kind.__name__, message=str(error))
        store.put(f"{prefix}/{FAULT_FILE}", fault.model_dump_json().encode())
        raise


def _require_same(request: TrainingRequest, prefix: str, requested: str) -> None:
    """Raise `ConfigError` if the job would store its model under another prefix."""
    if prefix == requested:
        return
    here = library_versions()
    other = [
        f"{name} {here.get(name)} instead of {version}"
        for name, version in request.versions.items()
        if here.get(name) != version
    ]
    raise ConfigError(
        f"this image would train {prefix}, but {requested} was requested: "
        f"{', '.join(other) or 'its code or its base model is different'}. Set "
        "INTENT_PAI_TRAIN_IMAGE to an image with the commit and the requirements of the run"
    )


class _ProgressMirror:
    """Copies the training program's progress to the store while it is open."""

    def __init__(self, store: ObjectStore, prefix: str, settings: Settings) -> None:
        self._store = store
        self._key = f"{prefix}/{PROGRESS_FILE}"
        self._file = work_folder(settings, prefix) / PROGRESS_FILE
        self._sent = b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_up)

    def __enter__(self) -> "_ProgressMirror":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep_up(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                lines = self._file.read_bytes()
                if lines != self._sent:
                    self._store.put(self._key, lines)
                    self._sent = lines
            except (StorageError, OSError) as error:
                logger.debug("could not upload the progress to the store: %s", error)
