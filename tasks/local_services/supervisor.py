"""The served model kept alive: what dies is started again, until somebody says stop."""

import logging
import threading
from collections.abc import Callable

from intent_core.errors import ConfigError, IntentError, ServiceError
from tasks.local_services.services import start_services
from tasks.serving.gateway.certificates import renew_certificate
from tasks.serving.gateway.nginx import serving_now
from tasks.serving.targets.local import LocalTarget
from tasks.settings import Settings
from tasks.system.processes import list_processes, stop_process

logger = logging.getLogger(__name__)

_EVERY_S = 5.0


def supervise(settings: Settings, stop: threading.Event, every_s: float = _EVERY_S) -> None:
    """Serve what `serving.json` says until `stop`; a failure is reported once and tried again.

    Promotions and rollbacks go on beside it: what they have written is what is kept alive. So
    does a certificate that is renewed: a broken one is reported, and the former one stays.
    Raises `ConfigError` for one that is broken at the start.
    """
    renew_certificate(settings)
    certificate = _RepeatedStep(
        lambda: reload_renewed_certificate(settings), (ConfigError, ServiceError)
    )
    # A promotion under way has the lock; whatever else it is may pass, too.
    serving = _RepeatedStep(lambda: _serve(settings), (ServiceError,))
    while not stop.is_set():
        certificate.do()
        serving.do()
        stop.wait(every_s)


def reload_renewed_certificate(settings: Settings) -> None:
    """Take a certificate that was renewed. Raises as `renew_certificate`."""
    if renew_certificate(settings):
        logger.info("the gateway has the new certificate of %s", settings.tls_certificate)


def _serve(settings: Settings) -> None:
    start_services(settings, logger.info, only=("gateway",))
    target = LocalTarget(settings)
    served = target.read().current
    if served is None and not serving_now(settings):
        return  # the first candidate's server, evaluated, waits for its promotion
    if served is None or not target.does_answer(served):
        _, repairs = target.reconcile()
        for repair in repairs:
            logger.info("%s", repair)


class _RepeatedStep:
    """A step done again and again; the same failure is reported once."""

    def __init__(self, step: Callable[[], None], passing: tuple[type[IntentError], ...]) -> None:
        self._step = step
        self._passing = passing
        self._reported = ""

    def do(self) -> None:
        try:
            self._step()
            self._reported = ""
        except self._passing as error:
            if str(error) != self._reported:
                logger.warning("%s", error)
                self._reported = str(error)


def stop_serving(settings: Settings) -> None:
    """Stop the gateway, then the model servers; nothing else of this home."""
    folder = settings.layout.processes
    records = [r for r in list_processes(folder) if r.name == "gateway" or r.name[:5] == "vllm-"]
    for record in sorted(records, key=lambda r: r.name != "gateway"):
        stop_process(folder, record)
        logger.info("stopped %s", record.name)
