"""Record runs in MLflow, and retry the records that failed to upload."""

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
    """Record a run in MLflow; if MLflow fails, queue the record in the store and return None."""
    try:
        record_queued(settings)
        return record_run(record)
    except TrackingError as error:
        queue_record(record, str(error))
        return None


def record_queued(settings: Settings) -> int:
    """Upload the queued records and return how many failed. Raises `TrackingError` on MLflow's."""
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
            logger.warning("failed to record %s in MLflow: %s", key, error)
            num_waiting += 1
            if isinstance(error, TrackingError):
                raise
            continue
        store.delete(key)
        logger.info("recorded %s in MLflow: %s", key, recorded.url)
    return num_waiting
