"""A replica's side of a fleet: do what the wish says, and say what has been done."""

import contextlib
import datetime
import hashlib
import logging
import socket
import threading

from intent_core.errors import ConfigError, IntentError, PromotionInProgressError
from tasks.serving.golden import require_golden
from tasks.serving.targets.fleet import (
    ReplicaReport,
    Wish,
    delete_report,
    describe_served,
    read_wish,
    write_report,
)
from tasks.serving.targets.local import (
    ServedModel,
    ServingState,
    adopt_state,
    is_same,
    is_served,
    promote_model,
    read_state,
    reconcile,
)
from tasks.serving.vllm.server import ensure_model_server, server_name
from tasks.settings import Settings
from tasks.system.processes import in_use

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_BEAT_S = 10.0


class Follower:
    """Makes this machine serve what its fleet is to serve."""

    def __init__(self, settings: Settings) -> None:
        if not settings.fleet:
            raise ConfigError(
                "INTENT_FLEET is not set: give the public alias that this replica is to serve"
            )
        self._fleet = settings
        self._here = serve_alone(settings)
        # Two replicas may share a machine, never a home.
        home = hashlib.sha256(str(settings.home.resolve()).encode()).hexdigest()[:6]
        self._said = ReplicaReport(replica=f"{socket.gethostname()}-{home}", at=_now())
        self._warm = self._holding = ""
        self._held = contextlib.ExitStack()

    def begin(self) -> None:
        """After a restart the first to be served is what the others serve, not what was here.

        A store that does not answer leaves what was here.
        """
        with contextlib.suppress(IntentError):
            wish = read_wish(self._fleet)
            here = read_state(self._here).current
            if wish.current and not (here and is_same(wish.current, here)):
                adopt_state(self._here, ServingState(current=wish.current, previous=wish.previous))

    def follow(self, stop: threading.Event, every_s: float = _EVERY_S) -> None:
        """Until `stop`; then it is nobody's to wait for."""
        beating = threading.Thread(target=self._beat, args=(stop,))
        beating.start()
        while not stop.is_set():
            try:
                self.step()
            except IntentError as error:
                logger.warning("the store does not say what is to be served: %s", error)
            stop.wait(every_s)
        beating.join()
        with contextlib.suppress(IntentError):
            delete_report(self._fleet, self._said.replica)

    def step(self) -> None:
        """One look at the wish. Raises when the store cannot be reached."""
        wish = read_wish(self._fleet)
        fault = ""
        try:
            self._obey(wish)
        except PromotionInProgressError:
            pass  # `intent serve` itself is starting a server
        except IntentError as error:
            fault = f"{type(error).__name__}: {error}"
        served = read_state(self._here).current
        serving = describe_served(served) if served and is_served(self._here, served) else ""
        self._report(serving, fault, wish.promoter)

    def _obey(self, wish: Wish) -> None:
        if wish.candidate and wish.is_moved():
            self._warm_up(wish.candidate)
        elif self._holding:  # warm or not: what failed must not stay
            self._let_go()
            reconcile(self._here)
        if wish.current and not self._serves(wish.current):
            promote_model(self._here, wish.current)

    def _warm_up(self, candidate: ServedModel) -> None:
        name = describe_served(candidate)
        if self._warm == name or self._serves(candidate):
            return
        self._let_go()
        # Else it would be stopped as left over before its turn comes.
        process = server_name(candidate.artifact, candidate.serve)
        self._held.enter_context(in_use(self._here.layout.processes, process))
        self._holding = process
        server = ensure_model_server(self._here, candidate.artifact, candidate.serve)
        key, artifact = self._here.read_api_key(), candidate.artifact
        require_golden(server.url, key, server.model, artifact, candidate.golden)
        self._warm = name

    def _let_go(self) -> None:
        self._held.close()
        self._warm = self._holding = ""

    def _serves(self, wanted: ServedModel) -> bool:
        here = read_state(self._here).current
        same = here is not None and describe_served(here) == describe_served(wanted)
        return same and here is not None and is_served(self._here, here)

    def _report(self, serving: str, fault: str, promoter: str) -> None:
        said = {"serving": serving, "warm": self._warm, "fault": fault, "of": promoter}
        old = self._said.model_dump(include=set(said))
        if fault and fault != self._said.fault:
            logger.warning("%s", fault)
        if said != old:
            self._said = self._said.model_copy(update={**said, "at": _now()})
            write_report(self._fleet, self._said)

    def _beat(self, stop: threading.Event) -> None:
        """A sign of life, also in the minutes a server takes to start."""
        while not stop.is_set():
            with contextlib.suppress(IntentError):
                write_report(self._fleet, self._said.model_copy(update={"at": _now()}))
            stop.wait(_BEAT_S)


def serve_alone(settings: Settings) -> Settings:
    """The same machine as one that nobody commands: what it does to its own servers."""
    return settings.model_copy(update={"fleet": "", "public_url": ""})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
