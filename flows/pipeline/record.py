"""A run's record in MLflow: written when its gate has decided, or when MLflow answers again."""

import logging

from pydantic import ValidationError

from intent_core.errors import ServiceError, TrackingError
from tasks.serving.targets import open_target
from tasks.settings import Settings
from tasks.storage.layout import UNRECORDED
from tasks.storage.step_results import get_store
from tasks.tracking.lineage import note_recorded
from tasks.tracking.record import (
    RecordedRun,
    RunRecord,
    queue_record,
    record_run,
    write_record,
)
from tasks.tracking.registry import point_champion

logger = logging.getLogger(__name__)


def record_or_queue(settings: Settings, record: RunRecord) -> RecordedRun | None:
    """MLflow holds no model up: what it does not take waits in the store."""
    try:
        record_queued(settings)
        return record_run(record)
    except TrackingError as error:
        queue_record(record, str(error))
        return None


def record_queued(settings: Settings) -> int:
    """Write what waits; returns how much still cannot be. `TrackingError` when MLflow fails."""
    store = get_store(settings)
    num_waiting = 0
    for key in [entry.key for entry in store.list(UNRECORDED.prefix)]:
        try:
            record = RunRecord.model_validate_json(store.read(key))
            recorded = write_record(settings, record)
            note_recorded(store, record, recorded)
            served = open_target(settings).note_version(record.artifact, recorded.version)
            if served:
                point_champion(settings, served.project, served.version)
        except (ServiceError, ValidationError) as error:
            logger.warning("%s is still not in MLflow: %s", key, error)
            num_waiting += 1
            if isinstance(error, TrackingError):
                raise
            continue
        store.delete(key)
        logger.info("%s is in MLflow now: %s", key, recorded.url)
    return num_waiting
