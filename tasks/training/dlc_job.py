"""A training in a job on PAI: what the job is asked, does, and leaves in the store.

The job has the store and its role, and neither Prefect nor MLflow: who waits for it reads the
progress from the store and shows it there.
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
from tasks.training.finetune import finetune_model, training_prefix

logger = logging.getLogger(__name__)

_REQUEST_FILE = "request.json"
_EVERY_S = 5.0
_KINDS = (ConfigError, DataError, TrainingError, ServiceError)


class TrainingRequest(BaseModel):
    """What the job reads first; its command names only where this lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_uri: str
    train: TrainConfig
    versions: dict[str, str]
    """Of the libraries that shape a model, where the run is: the job's must be the same."""


class JobFault(BaseModel):
    """Why the job ended without a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    message: str


def put_request(
    store: ObjectStore, prefix: str, dataset: DatasetManifest, train: TrainConfig
) -> None:
    """Ask for a training, and forget what an earlier job said of it."""
    request = TrainingRequest(dataset_uri=dataset.uri, train=train, versions=library_versions())
    for name in (FAULT_FILE, PROGRESS_FILE):
        store.delete(f"{prefix}/{name}")
    store.put(f"{prefix}/{_REQUEST_FILE}", request.model_dump_json(indent=1).encode())


def read_progress(store: ObjectStore, prefix: str) -> bytes:
    """The program's lines so far."""
    try:
        return store.read(f"{prefix}/{PROGRESS_FILE}")
    except MissingObjectError:
        return b""


def read_fault(store: ObjectStore, prefix: str) -> IntentError | None:
    """Why the job failed, as the error it was there; None when it could not say."""
    try:
        fault = JobFault.model_validate_json(store.read(f"{prefix}/{FAULT_FILE}"))
    except MissingObjectError:
        return None
    kind = next((kind for kind in _KINDS if kind.__name__ == fault.kind), TrainingError)
    return kind(fault.message)


def do_training(settings: Settings, prefix: str) -> ModelArtifact:
    """The job's own side: train as anywhere, and leave the model, or the reason why not."""
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
    """Else the model would lie where nobody looks for it."""
    if prefix == requested:
        return
    here = library_versions()
    other = [
        f"{name} {here.get(name)} instead of {version}"
        for name, version in request.versions.items()
        if here.get(name) != version
    ]
    raise ConfigError(
        f"this image would train {prefix}, and {requested} was asked for: "
        f"{', '.join(other) or 'its code or its base model is another one'}. Set "
        "INTENT_PAI_TRAIN_IMAGE to an image of the commit and the requirements that the run has"
    )


class _ProgressMirror:
    """While it is open, the program's progress is in the store."""

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
                logger.debug("the progress is not in the store yet: %s", error)
