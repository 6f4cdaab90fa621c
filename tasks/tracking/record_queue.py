"""Records that MLflow did not take: kept in the store, written when it is there again."""

import logging

from prefect import task
from pydantic import ValidationError

from intent_core.errors import ServiceError, TrackingError
from tasks.serving.targets import open_target
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tasks.tracking.lineage import note_recorded
from tasks.tracking.record import RunRecord, publish_verdict, write_record
from tasks.tracking.registry import point_champion

logger = logging.getLogger(__name__)

QUEUE = "unrecorded"


@task
def queue_record(record: RunRecord, error: str) -> None:
    """Keep a record for later; the verdict is on the Prefect page all the same."""
    store = get_store(get_settings())
    store.put(f"{QUEUE}/{record.key}.json", record.model_dump_json().encode())
    logger.warning(
        "the run is not in MLflow yet: the next run or `intent record` writes it there. %s", error
    )
    publish_verdict(record.decision)


def record_queued(settings: Settings) -> int:
    """Write what waits; returns how much still cannot be. `TrackingError` when MLflow fails."""
    store = get_store(settings)
    left = 0
    for key in [found.key for found in store.list(f"{QUEUE}/")]:
        try:
            record = RunRecord.model_validate_json(store.read(key))
            recorded = write_record(settings, record)
            note_recorded(store, record, recorded)
            served = open_target(settings).note_version(record.artifact, recorded.version)
            if served:
                point_champion(settings, served.project, served.version)
        except (ServiceError, ValidationError) as error:
            logger.warning("%s is still not in MLflow: %s", key, error)
            left += 1
            if isinstance(error, TrackingError):
                raise
            continue
        store.delete(key)
        logger.info("%s is in MLflow now: %s", key, recorded.url)
    return left
