"""A fleet: replicas behind one address, each with a disk and servers of its own.

What they are to serve is one small object in the store, the desired state. A promotion writes its
candidate there and waits until every replica has it warm, only then makes it the current model, and
waits again. Replicas (`tasks.serving.fleet.replica`) report in the store, too; no process needs to
reach them. The desired state is replaced whole, so every reader reads a complete one.
"""

import datetime
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from intent_core.errors import ConfigError, PromotionInProgressError, ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import fingerprint
from intent_core.serving.access.aliases import Trial
from tasks.serving.golden import require_golden
from tasks.serving.releases import find_content_names
from tasks.serving.state import Drift, ServedModel, ServingState, is_same
from tasks.settings import Settings
from tasks.storage.layout import SERVING, report_key, report_prefix
from tasks.storage.objects import MissingObjectError
from tasks.storage.step_results import MANIFEST, get_store, read_finished, write_finished

logger = logging.getLogger(__name__)

# By the clocks of several machines: they may differ by some seconds.
_PROMOTION_LOST_AFTER_S = 60
_REPLICA_LOST_AFTER_S = 45
_DOWNLOAD_S = 900
_SWITCH_S = 120
_EVERY_S = 0.5


class DesiredState(BaseModel):
    """What the replicas of an alias are to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None
    candidate: ServedModel | None = None
    """To be warm on every replica that serves the current one."""
    promoter: str = ""
    """The promotion in progress."""
    at: AwareDatetime
    """Its last heartbeat."""

    def is_changing(self) -> bool:
        """Is a promotion in progress whose process is alive?"""
        return bool(self.promoter) and _age_s(self.at) < _PROMOTION_LOST_AFTER_S


class ReplicaReport(BaseModel):
    """What a replica reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replica: str
    serving: str = ""
    """`describe_served` of what answers its callers."""
    warm: str = ""
    """The same of the candidate that gave its golden answers."""
    fault: str = ""
    """Why it could not do what the promotion `of` asked for."""
    of: str = ""
    at: AwareDatetime


def describe_served(served: ServedModel) -> str:
    """A model, how it is served and the version it is labelled with, as one name."""
    return f"{served.artifact.name}-{fingerprint(served.serve)[:6]}@{served.version}"


class FleetTarget:
    """The replicas of the alias in INTENT_FLEET."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.alias = settings.fleet
        self._prefix = SERVING.key(self.alias)

    def read(self) -> ServingState:
        desired = self.read_desired()
        return ServingState(current=desired.current, previous=desired.previous)

    def promote(self, served: ServedModel) -> ServedModel:
        """Raises `ServingError` that names the replica which could not."""
        if served.alias != self.alias:
            raise ConfigError(
                f"the recipe's serve.alias is {served.alias!r} and the fleet's {self.alias!r} "
                "(INTENT_FLEET): they must be the same"
            )
        change = _FleetChange(self._settings, self)
        former = change.desired.current
        if former and is_same(served, former):
            served = former
        is_new = former is not None and former.artifact.digest != served.artifact.digest
        return change.make(served, former if is_new else change.desired.previous)

    def roll_back(self) -> ServedModel:
        change = _FleetChange(self._settings, self)
        desired = change.desired
        if desired.previous is None or desired.current is None:
            change.end()
            raise ConfigError("there is no earlier model to roll back to")
        served = desired.previous.model_copy(update={"since": _now()})
        return change.make(served, desired.current)

    def reconcile(self) -> tuple[ServedModel | None, list[str]]:
        """Withdraw what a killed promotion left; the replicas do the rest by themselves."""
        desired, repairs = self.read_desired(), []
        if desired.candidate:
            _FleetChange(self._settings, self).end()
            name = describe_served(desired.candidate)
            repairs.append(f"withdrew {name}, whose promotion was cut off")
        wanted = describe_served(desired.current) if desired.current else ""
        repairs += [
            f"{report.replica} does not serve it yet: {report.fault or 'on its way'}"
            for report in self.read_reports()
            if report.serving != wanted
        ]
        return desired.current, repairs

    def find_drift(self) -> Drift | None:
        return None  # replicas repair themselves

    def note_version(self, artifact: ModelArtifact, version: str) -> ServedModel | None:
        change = _FleetChange(self._settings, self)
        served = change.desired.current
        if served is None or served.artifact.digest != artifact.digest:
            change.end()
            return None
        return change.make(served.model_copy(update={"version": version}), change.desired.previous)

    def does_answer(self, served: ServedModel) -> bool:
        return set(self.replicas().values()) == {describe_served(served)}

    def replicas(self) -> dict[str, str]:
        return {
            report.replica: report.serving or report.fault or "nothing yet"
            for report in self.read_reports()
        }

    def protected_models(self) -> set[str]:
        """Those of every fleet of the store. Raises `StorageError` for a state it cannot read."""
        store, names = get_store(self._settings), set[str]()
        for stored in store.scan(SERVING.prefix):
            if stored.key.endswith(f"/{MANIFEST}"):
                names |= find_content_names(store.read(stored.key), stored.key)
        return names

    def require_servers_here(self) -> None:
        raise ConfigError(
            f"INTENT_FLEET={self.alias} commands replicas: add --follow to be one of them"
        )

    def start_trial(self, name: str, trial: dict[str, Any]) -> Trial:
        _refuse_trial()

    def stop_trial(self) -> None:
        _refuse_trial()

    def read_trial(self) -> dict[str, Any] | None:
        _refuse_trial()

    def read_desired(self) -> DesiredState:
        desired = read_finished(get_store(self._settings), self._prefix, DesiredState)
        return desired or DesiredState(at=_now())

    def write_desired(self, desired: DesiredState) -> None:
        write_finished(get_store(self._settings), self._prefix, desired)

    def read_reports(self) -> list[ReplicaReport]:
        """Those of the replicas that are alive."""
        store, reports = get_store(self._settings), []
        for stored in list(store.list(report_prefix(self.alias))):
            try:
                reports.append(ReplicaReport.model_validate_json(store.read(stored.key)))
            except (MissingObjectError, ValidationError):
                continue  # it has just stopped, or has another version
        return [report for report in reports if _age_s(report.at) < _REPLICA_LOST_AFTER_S]

    def write_report(self, report: ReplicaReport) -> None:
        content = report.model_dump_json(indent=1).encode()
        get_store(self._settings).put(report_key(self.alias, report.replica), content)

    def delete_report(self, replica: str) -> None:
        """It has stopped: no promotion waits for it."""
        get_store(self._settings).delete(report_key(self.alias, replica))


def require_fleet(settings: Settings) -> FleetTarget:
    """Raises `ConfigError` when no fleet is set."""
    if not settings.fleet:
        raise ConfigError(
            "INTENT_FLEET is not set: give the public alias that the replicas are to serve, "
            "the recipe's serve.alias"
        )
    return FleetTarget(settings)


class _FleetChange:
    """One change of the desired state, from its announcement to its end."""

    def __init__(self, settings: Settings, fleet: FleetTarget) -> None:
        self._settings, self._fleet = settings, fleet
        self._name = f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
        self.desired = fleet.read_desired()
        if self.desired.is_changing():
            raise _in_progress()
        self._write(self.desired.model_copy(update={"candidate": None}))

    def make(self, served: ServedModel, previous: ServedModel | None) -> ServedModel:
        """Warm it everywhere, switch everywhere, ask it at the public address."""
        name, former = describe_served(served), self.desired
        try:
            self._continue(former.model_copy(update={"candidate": served}))
            limit_s = served.serve.startup_timeout_s + _DOWNLOAD_S
            self._wait(lambda report: name in (report.warm, report.serving), "warm", limit_s)
            self._continue(
                DesiredState(current=served, previous=previous, candidate=served, at=_now())
            )
            self._wait(lambda report: report.serving == name, "served", _SWITCH_S)
            key, endpoint = self._settings.read_public_key(), self._settings.endpoint
            require_golden(endpoint, key, served.alias, served.artifact, served.golden)
        except PromotionInProgressError:
            raise  # the other promotion's state stays
        except BaseException:
            self._write(former.model_copy(update={"candidate": None}), promoter="")
            raise
        self._write(DesiredState(current=served, previous=previous, at=_now()), promoter="")
        logger.info("%d replicas serve %s", len(self._fleet.read_reports()), name)
        return served

    def end(self) -> None:
        """Nothing changes but that no promotion is in progress."""
        self._write(self.desired.model_copy(update={"candidate": None}), promoter="")

    def _write(self, desired: DesiredState, promoter: str | None = None) -> None:
        promoter = self._name if promoter is None else promoter
        self._fleet.write_desired(desired.model_copy(update={"promoter": promoter, "at": _now()}))

    def _continue(self, desired: DesiredState | None = None) -> None:
        """Write the next state, or the same with a heartbeat.

        Of two promotions that begin at once the later one's name is stored; only that continues.
        """
        stored = self._fleet.read_desired()
        if stored.promoter != self._name:
            raise _in_progress()
        self._write(desired or stored)

    def _wait(self, is_done: Callable[[ReplicaReport], bool], what: str, limit_s: float) -> None:
        began, beaten = time.monotonic(), 0.0
        while True:
            reports = self._fleet.read_reports()
            for report in reports:
                if report.fault and report.of == self._name and not is_done(report):
                    raise ServingError(f"replica {report.replica}: {report.fault}")
            if reports and all(map(is_done, reports)):
                return
            waited = time.monotonic() - began
            if not reports and waited > _REPLICA_LOST_AFTER_S:
                raise ServingError(
                    f"no replica of {self._fleet.alias!r} gives a sign of life in "
                    f"{self._settings.store_uri}: start `intent serve --follow` with this "
                    "INTENT_STORE and INTENT_FLEET"
                )
            if waited > limit_s:
                slow = ", ".join(report.replica for report in reports if not is_done(report))
                raise ServingError(f"after {waited:.0f} s the model is not {what} on {slow}")
            if waited - beaten > _PROMOTION_LOST_AFTER_S / 6:
                self._continue()
                beaten = waited
            time.sleep(_EVERY_S)


def _refuse_trial() -> NoReturn:
    raise ConfigError("a fleet has no trials: each replica counts for itself; use one machine")


def _in_progress() -> PromotionInProgressError:
    return PromotionInProgressError(
        "another promotion or rollback is under way: try again when it has ended"
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _age_s(at: datetime.datetime) -> float:
    return (_now() - at).total_seconds()
