"""The served model kept alive: what dies is started again, until somebody says stop."""

import logging
import threading

from intent_core.errors import ServiceError
from tasks.processes import list_processes, processes_folder, stop_process
from tasks.services import start_services
from tasks.serving import does_answer, read_state, reconcile
from tasks.settings import Settings

logger = logging.getLogger(__name__)

_EVERY_S = 5.0


def supervise(settings: Settings, stop: threading.Event, every_s: float = _EVERY_S) -> None:
    """Serve what `serving.json` says until `stop`; a failure is reported once and tried again.

    Promotions and rollbacks go on beside it: what they have written is what is kept alive.
    """
    reported = ""
    while not stop.is_set():
        try:
            start_services(settings, logger.info, only=("gateway",))
            served = read_state(settings).current
            if served is None or not does_answer(settings, served):
                _, repairs = reconcile(settings)
                for repair in repairs:
                    logger.info("%s", repair)
            reported = ""
        except ServiceError as error:
            # A promotion under way has the lock; whatever else it is may pass, too.
            if str(error) != reported:
                logger.warning("%s", error)
                reported = str(error)
        stop.wait(every_s)


def stop_serving(settings: Settings) -> None:
    """Stop the gateway, then the model servers; nothing else of this home."""
    folder = processes_folder(settings)
    records = [r for r in list_processes(folder) if r.name == "gateway" or r.name[:5] == "vllm-"]
    for record in sorted(records, key=lambda r: r.name != "gateway"):
        stop_process(folder, record)
        logger.info("stopped %s", record.name)
