"""A fleet's replica: apply the desired state on this machine and report the result."""

import contextlib
import hashlib
import logging
import socket
import threading

from intent_core.errors import IntentError, PromotionInProgressError
from tasks.serving.fleet.desired_state import DesiredState, now
from tasks.serving.golden import require_golden
from tasks.serving.state import ServedModel, ServingState, is_same
from tasks.serving.targets.fleet import (
    ReplicaReport,
    describe_served,
    require_fleet,
)
from tasks.serving.targets.local import LocalTarget
from tasks.serving.vllm.server import ensure_model_server, read_server_key, server_name
from tasks.settings import Settings
from tasks.system.processes import in_use

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_BEAT_S = 10.0


class Replica:
    """Makes this machine serve the model in its fleet's desired state.

    Raises `ConfigError` when INTENT_FLEET is not set.
    """

    def __init__(self, settings: Settings) -> None:
        self._fleet = require_fleet(settings)
        self._settings = as_single_machine(settings)
        self._local = LocalTarget(self._settings)
        # Two replicas may share a machine but not a home, so the home makes the name unique.
        home = hashlib.sha256(str(settings.home.resolve()).encode()).hexdigest()[:6]
        self._report = ReplicaReport(replica=f"{socket.gethostname()}-{home}", at=now())
        self._warm = self._process = ""
        self._in_use = contextlib.ExitStack()

    def adopt_desired(self) -> None:
        """After a restart, serve the fleet's current model instead of the last local one.

        If the store does not answer, keep the local one.
        """
        with contextlib.suppress(IntentError):
            desired = self._fleet.read_desired()
            served = self._local.read().current
            if desired.current and not (served and is_same(desired.current, served)):
                state = ServingState(current=desired.current, previous=desired.previous)
                self._local.adopt(state)

    def follow(self, stop: threading.Event, every_s: float = _EVERY_S) -> None:
        """Apply the desired state repeatedly until `stop`, then leave the fleet."""
        beating = threading.Thread(target=self._beat, args=(stop,))
        beating.start()
        while not stop.is_set():
            try:
                self.step()
            except IntentError as error:
                logger.warning("failed to read the fleet's desired state: %s", error)
            stop.wait(every_s)
        beating.join()
        with contextlib.suppress(IntentError):
            self._fleet.delete_report(self._report.replica)

    def step(self) -> None:
        """Apply the desired state once and report. Raises if the store is not available."""
        desired = self._fleet.read_desired()
        fault = ""
        try:
            self._apply(desired)
        except PromotionInProgressError:
            pass  # `intent serve` is starting a server and holds the lock
        except IntentError as error:
            fault = f"{type(error).__name__}: {error}"
        served = self._local.read().current
        serving = describe_served(served) if served and self._local.is_served(served) else ""
        self._write_report(serving, fault, desired.promoter)

    def _apply(self, desired: DesiredState) -> None:
        if desired.candidate and desired.is_changing():
            self._warm_up(desired.candidate)
        elif self._process:  # also if it is not warm: a failed candidate's server must be stopped
            self._release_candidate()
            self._local.reconcile()
        if desired.current and not self._serves(desired.current):
            self._local.promote(desired.current)

    def _warm_up(self, candidate: ServedModel) -> None:
        name = describe_served(candidate)
        if self._warm == name or self._serves(candidate):
            return
        self._release_candidate()
        # Marked as in use; otherwise the server would be stopped as unused before its promotion.
        process = server_name(candidate.artifact, candidate.serve)
        self._in_use.enter_context(in_use(self._settings.layout.processes, process))
        self._process = process
        server = ensure_model_server(self._settings, candidate.artifact, candidate.serve)
        key = read_server_key(self._settings, server)
        require_golden(server.url, key, server.model, candidate.artifact, candidate.golden)
        self._warm = name

    def _release_candidate(self) -> None:
        self._in_use.close()
        self._warm = self._process = ""

    def _serves(self, wanted: ServedModel) -> bool:
        served = self._local.read().current
        if served is None or describe_served(served) != describe_served(wanted):
            return False
        return self._local.is_served(served)

    def _write_report(self, serving: str, fault: str, promoter: str) -> None:
        news = {"serving": serving, "warm": self._warm, "fault": fault, "of": promoter}
        if fault and fault != self._report.fault:
            logger.warning("%s", fault)
        if news != self._report.model_dump(include=set(news)):
            self._report = self._report.model_copy(update={**news, "at": now()})
            self._fleet.write_report(self._report)

    def _beat(self, stop: threading.Event) -> None:
        """Send heartbeats from a thread, because starting a server can block `step` for minutes."""
        while not stop.is_set():
            with contextlib.suppress(IntentError):
                self._fleet.write_report(self._report.model_copy(update={"at": now()}))
            stop.wait(_BEAT_S)


def as_single_machine(settings: Settings) -> Settings:
    """Return the settings without the fleet, for the replica's own gateway and model servers."""
    return settings.model_copy(update={"fleet": "", "public_url": ""})
