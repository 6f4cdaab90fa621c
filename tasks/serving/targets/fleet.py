"""A fleet: replicas behind one address, each with a disk and servers of its own.

What they are to serve is one small object in the store, the wish. A promoter writes its candidate
there and waits until every replica has it warm, only then makes it the current model, and waits
again. Replicas (`tasks.serving.fleet.replica`) report in the store, too; nobody needs to reach
them. A wish is replaced whole, so whoever reads one reads a state that somebody meant.
"""

import datetime
import logging
import os
import socket
import time
from collections.abc import Callable

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from intent_core.errors import ConfigError, PromotionInProgressError, ServingError
from intent_core.recipe.config import fingerprint
from tasks.serving.golden import require_golden
from tasks.serving.targets.local import ServedModel, ServingState, is_same
from tasks.settings import Settings
from tasks.storage.objects import MissingObjectError
from tasks.storage.step_results import get_store, read_finished, write_finished

logger = logging.getLogger(__name__)

# By the clocks of several machines: they may differ by some seconds.
_PROMOTER_IS_GONE_S = 60
_REPLICA_IS_GONE_S = 45
_DOWNLOAD_S = 900
_SWITCH_S = 120
_EVERY_S = 0.5


class Wish(BaseModel):
    """What the replicas of an alias are to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None
    candidate: ServedModel | None = None
    """To be warm beside the current one."""
    promoter: str = ""
    """Who moves it at this moment."""
    at: AwareDatetime
    """When that promoter last gave a sign of life."""

    def is_moved(self) -> bool:
        """By a promoter that lives?"""
        return bool(self.promoter) and _age_s(self.at) < _PROMOTER_IS_GONE_S


class ReplicaReport(BaseModel):
    """What a replica says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replica: str
    serving: str = ""
    """`describe_served` of what its callers are answered by."""
    warm: str = ""
    """The same of the candidate that answered its golden utterances."""
    fault: str = ""
    """Why it could not do what it was asked for last, by the `promoter` in `of`."""
    of: str = ""
    at: AwareDatetime


def describe_served(served: ServedModel) -> str:
    """A model, how it is served and the version it is labelled with, as one name."""
    return f"{served.artifact.name}-{fingerprint(served.serve)[:6]}@{served.version}"


def read_wish(settings: Settings) -> Wish:
    found = read_finished(get_store(settings), _prefix(settings), Wish)
    return found or Wish(at=_now())


def write_report(settings: Settings, report: ReplicaReport) -> None:
    write = get_store(settings).put
    write(_report_key(settings, report.replica), report.model_dump_json(indent=1).encode())


def delete_report(settings: Settings, replica: str) -> None:
    """It takes no part any more; whoever waits need not wait for it."""
    get_store(settings).delete(_report_key(settings, replica))


def read_reports(settings: Settings) -> list[ReplicaReport]:
    """Those of the replicas that live."""
    store, reports = get_store(settings), []
    for found in list(store.list(f"{_prefix(settings)}/replicas/")):
        try:
            reports.append(ReplicaReport.model_validate_json(store.read(found.key)))
        except (MissingObjectError, ValidationError):
            continue  # it has just left, or speaks another version's language
    return [report for report in reports if _age_s(report.at) < _REPLICA_IS_GONE_S]


def read_fleet_state(settings: Settings) -> ServingState:
    wish = read_wish(settings)
    return ServingState(current=wish.current, previous=wish.previous)


def promote_in_fleet(settings: Settings, served: ServedModel) -> ServedModel:
    """Have every replica serve this model; any failure leaves them with the former one.

    Raises `ServingError` naming the replica that could not, `PromotionInProgressError` when
    another process promotes.
    """
    if served.alias != settings.fleet:
        raise ConfigError(
            f"the recipe's serve.alias is {served.alias!r} and the fleet's {settings.fleet!r} "
            "(INTENT_FLEET): they must be the same"
        )
    move = _Move(settings)
    former = move.wish.current
    if former and is_same(served, former):
        served = former
    is_new = former is not None and former.artifact.digest != served.artifact.digest
    previous = former if is_new else move.wish.previous
    return move.make(served, previous)


def roll_back_fleet(settings: Settings) -> ServedModel:
    """Have every replica serve the model served before."""
    move = _Move(settings)
    if move.wish.previous is None or move.wish.current is None:
        move.end()
        raise ConfigError("there is no earlier model to roll back to")
    served = move.wish.previous.model_copy(update={"since": _now()})
    return move.make(served, move.wish.current)


def note_fleet_version(settings: Settings, digest: str, version: str) -> ServedModel | None:
    """The registry's version of what was promoted without one; None: another is served."""
    move = _Move(settings)
    served = move.wish.current
    if served is None or served.artifact.digest != digest:
        move.end()
        return None
    return move.make(served.model_copy(update={"version": version}), move.wish.previous)


def reconcile_fleet(settings: Settings) -> tuple[ServedModel | None, list[str]]:
    """Withdraw what a promoter that died has left; the replicas do the rest by themselves."""
    wish, repairs = read_wish(settings), []
    if wish.candidate:
        move = _Move(settings)
        move.end()
        repairs.append(f"withdrew {describe_served(wish.candidate)}, whose promotion was cut off")
    wanted = describe_served(wish.current) if wish.current else ""
    late = [report for report in read_reports(settings) if report.serving != wanted]
    repairs += [f"{one.replica} does not serve it yet: {one.fault or 'on its way'}" for one in late]
    return wish.current, repairs


class _Move:
    """One change of the wish, from the first word to the last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
        self.wish = read_wish(settings)
        if self.wish.is_moved():
            raise _under_way()
        self._write(self.wish.model_copy(update={"candidate": None}))

    def make(self, served: ServedModel, previous: ServedModel | None) -> ServedModel:
        """Warm it everywhere, turn to it everywhere, ask it at the public address."""
        name, former = describe_served(served), self.wish
        try:
            self._go_on(former.model_copy(update={"candidate": served}))
            limit_s = served.serve.startup_timeout_s + _DOWNLOAD_S
            self._wait(lambda report: name in (report.warm, report.serving), "warm", limit_s)
            self._go_on(Wish(current=served, previous=previous, candidate=served, at=_now()))
            self._wait(lambda report: report.serving == name, "served", _SWITCH_S)
            key = self._settings.read_public_key()
            endpoint = self._settings.endpoint
            require_golden(endpoint, key, served.alias, served.artifact, served.golden)
        except PromotionInProgressError:
            raise  # the other one's wish stands
        except BaseException:
            self._write(former.model_copy(update={"candidate": None}), promoter="")
            raise
        self._write(Wish(current=served, previous=previous, at=_now()), promoter="")
        logger.info("%d replicas serve %s", len(read_reports(self._settings)), name)
        return served

    def end(self) -> None:
        """Nothing changes but that nobody is at it."""
        self._write(self.wish.model_copy(update={"candidate": None}), promoter="")

    def _write(self, wish: Wish, promoter: str | None = None) -> None:
        who = self._name if promoter is None else promoter
        value = wish.model_copy(update={"promoter": who, "at": _now()})
        write_finished(get_store(self._settings), _prefix(self._settings), value)

    def _go_on(self, wish: Wish | None = None) -> None:
        """The next wish, or the same with a sign of life.

        Of two that begin at once the later one's name stands there; it alone goes on.
        """
        found = read_wish(self._settings)
        if found.promoter != self._name:
            raise _under_way()
        self._write(wish or found)

    def _wait(self, is_done: Callable[[ReplicaReport], bool], what: str, limit_s: float) -> None:
        began, beaten = time.monotonic(), 0.0
        while True:
            reports = read_reports(self._settings)
            for report in reports:
                if report.fault and report.of == self._name and not is_done(report):
                    raise ServingError(f"replica {report.replica}: {report.fault}")
            if reports and all(map(is_done, reports)):
                return
            waited = time.monotonic() - began
            if waited > limit_s or (not reports and waited > _REPLICA_IS_GONE_S):
                raise ServingError(_explain(self._settings, reports, is_done, what, waited))
            if waited - beaten > _PROMOTER_IS_GONE_S / 6:
                self._go_on()
                beaten = waited
            time.sleep(_EVERY_S)


def _explain(
    settings: Settings,
    reports: list[ReplicaReport],
    is_done: Callable[[ReplicaReport], bool],
    what: str,
    waited_s: float,
) -> str:
    if not reports:
        return (
            f"no replica of {settings.fleet!r} gives a sign of life in {settings.store_uri}: "
            "start `intent serve --follow` with this INTENT_STORE and INTENT_FLEET"
        )
    slow = ", ".join(report.replica for report in reports if not is_done(report))
    return f"after {waited_s:.0f} s the model is not {what} on {slow}"


def _under_way() -> PromotionInProgressError:
    return PromotionInProgressError(
        "another promotion or rollback is under way: try again when it has ended"
    )


def _prefix(settings: Settings) -> str:
    return f"serving/{settings.fleet}"


def _report_key(settings: Settings, replica: str) -> str:
    return f"{_prefix(settings)}/replicas/{replica}.json"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _age_s(at: datetime.datetime) -> float:
    return (_now() - at).total_seconds()
