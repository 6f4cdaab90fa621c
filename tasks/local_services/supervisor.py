"""Keep the served model running: restart the gateway and model servers that die."""

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
    """Serve the model in `serving.json` until `stop`; log a failure once and retry.

    Promotions and rollbacks can run at the same time: the model they write is kept running. A
    renewed certificate is loaded; if it is unusable, that is logged and the previous one stays.
    Raises `ConfigError` for a certificate that is unusable at the start.
    """
    renew_certificate(settings)
    certificate = _RepeatedStep(
        lambda: reload_renewed_certificate(settings), (ConfigError, ServiceError)
    )
    # Retry on ServiceError: a promotion in progress holds the lock; other failures may pass, too.
    serving = _RepeatedStep(lambda: _serve(settings), (ServiceError,))
    while not stop.is_set():
        certificate.do()
        serving.do()
        stop.wait(every_s)


def reload_renewed_certificate(settings: Settings) -> None:
    """Load a renewed certificate into the gateway. Raises the errors of `renew_certificate`."""
    if renew_certificate(settings):
        logger.info("gateway loaded the new certificate: %s", settings.tls_certificate)


def _serve(settings: Settings) -> None:
    start_services(settings, logger.info, only=("gateway",))
    target = LocalTarget(settings)
    served = target.read().current
    if served is None and not serving_now(settings):
        return  # `reconcile` would stop the server of a first candidate that awaits promotion
    if served is None or not target.does_answer(served):
        _, repairs = target.reconcile()
        for repair in repairs:
            logger.info("%s", repair)


class _RepeatedStep:
    """A step that is repeated; consecutive identical failures are logged once."""

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
    """Stop the gateway, then the model servers; keep the other processes of this home."""
    folder = settings.layout.processes
    records = [r for r in list_processes(folder) if r.name == "gateway" or r.name[:5] == "vllm-"]
    for record in sorted(records, key=lambda r: r.name != "gateway"):
        stop_process(folder, record)
        logger.info("stopped %s", record.name)
