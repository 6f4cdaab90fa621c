"""A fleet: replicas behind one address, each with its own disk and servers.

The store contains the fleet's desired state (`tasks.serving.fleet.desired_state`). A promotion
writes its candidate there, waits until every replica has loaded it, makes it the current model, and
waits until every replica serves it. Replicas (`tasks.serving.fleet.replica`) write their reports to
the store, too, so promotions need no connection to them.
"""

import contextlib
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
from tasks.serving.fleet.desired_state import (
    DesiredState,
    DesiredStates,
    SupersededError,
    age_s,
    now,
)
from tasks.serving.golden import require_golden
from tasks.serving.releases import find_content_names
from tasks.serving.state import Drift, ServedModel, ServingState, is_same, since_now
from tasks.settings import Settings
from tasks.storage.layout import SERVING, report_key, report_prefix
from tasks.storage.objects import MissingObjectError
from tasks.storage.step_results import get_store

logger = logging.getLogger(__name__)

_BEAT_S = 10
_REPLICA_LOST_AFTER_S = 45
_DOWNLOAD_S = 900
_SWITCH_S = 120
_EVERY_S = 0.5
_TRIES = 5


class ReplicaReport(BaseModel):
    """The state of a replica, as it last reported it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replica: str
    serving: str = ""
    """`describe_served` of the model that its callers reach; "" if none."""
    warm: str = ""
    """`describe_served` of the candidate that is loaded and gave its golden answers."""
    fault: str = ""
    """Why the replica could not follow the desired state; "" if it could."""
    of: str = ""
    """Id of the promotion to which this report belongs."""
    at: AwareDatetime
    """When the report was written."""


def describe_served(served: ServedModel) -> str:
    """Return a name made of the content name, the serve configuration and the version."""
    return f"{served.artifact.name}-{fingerprint(served.serve)[:6]}@{served.version}"


class FleetTarget:
    """The replicas that serve the alias in INTENT_FLEET."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.alias = settings.fleet

    def read(self) -> ServingState:
        desired = self.read_desired()
        return ServingState(current=desired.current, previous=desired.previous)

    def promote(self, served: ServedModel) -> ServedModel:
        """Promote on all replicas. Raises `ServingError` that names a replica that failed."""
        if served.alias != self.alias:
            raise ConfigError(
                f"serve.alias in the recipe is {served.alias!r}, but INTENT_FLEET is "
                f"{self.alias!r}: they must be equal"
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
            raise ConfigError("there is no previous model to roll back to")
        return change.make(desired.previous, desired.current)

    def reconcile(self) -> tuple[ServedModel | None, list[str]]:
        """Withdraw the candidate of a killed promotion; the replicas repair themselves."""
        desired, repairs = self.read_desired(), []
        if desired.candidate:
            _FleetChange(self._settings, self).end()
            name = describe_served(desired.candidate)
            repairs.append(f"withdrew {name}: its promotion was interrupted")
        wanted = describe_served(desired.current) if desired.current else ""
        repairs += [
            f"{report.replica} serves {report.serving or 'no model'} instead of "
            f"{wanted or 'no model'}: {report.fault or 'in progress'}"
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
            report.replica: report.serving or report.fault or "no model yet"
            for report in self.read_reports()
        }

    def protected_models(self) -> set[str]:
        """Return the models of all fleets in the store.

        Raises `StorageError` for a desired state that cannot be read.
        """
        store, names = get_store(self._settings), set[str]()
        for fleet in {stored.key.split("/")[1] for stored in store.scan(SERVING.prefix)}:
            _, key, content = DesiredStates(store, fleet).read_content()
            if content:
                names |= find_content_names(content, key)
        return names

    def require_servers_here(self) -> None:
        raise ConfigError(
            f"INTENT_FLEET={self.alias} is set: add --follow to run a replica of that fleet here"
        )

    def start_trial(self, name: str, trial: dict[str, Any]) -> Trial:
        _refuse_trial()

    def stop_trial(self) -> None:
        _refuse_trial()

    def read_trial(self) -> dict[str, Any] | None:
        _refuse_trial()

    def read_desired(self) -> DesiredState:
        return self.states.read()[1]

    @property
    def states(self) -> DesiredStates:
        return DesiredStates(get_store(self._settings), self.alias)

    def read_reports(self) -> list[ReplicaReport]:
        """Return the reports of the replicas that are alive."""
        store, reports = get_store(self._settings), []
        for stored in list(store.list(report_prefix(self.alias))):
            try:
                reports.append(ReplicaReport.model_validate_json(store.read(stored.key)))
            except (MissingObjectError, ValidationError):
                continue  # the replica has just stopped, or runs another version
        return [report for report in reports if age_s(report.at) < _REPLICA_LOST_AFTER_S]

    def write_report(self, report: ReplicaReport) -> None:
        content = report.model_dump_json(indent=1).encode()
        get_store(self._settings).put(report_key(self.alias, report.replica), content)

    def delete_report(self, replica: str) -> None:
        """Delete the report of a replica that stops, so that promotions do not wait for it."""
        get_store(self._settings).delete(report_key(self.alias, replica))


def require_fleet(settings: Settings) -> FleetTarget:
    """Open the fleet in INTENT_FLEET. Raises `ConfigError` if it is not set."""
    if not settings.fleet:
        raise ConfigError(
            "INTENT_FLEET is not set: set it to the alias that the replicas serve (serve.alias in "
            "the recipe)"
        )
    return FleetTarget(settings)


class _FleetChange:
    """One change of the desired state; only one can be in progress."""

    def __init__(self, settings: Settings, fleet: FleetTarget) -> None:
        self._settings, self._fleet = settings, fleet
        self._name = f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
        self._number = 0
        self.desired = self._begin()

    def _begin(self) -> DesiredState:
        """Mark the fleet as changing and return its state; decide again if another was first."""
        for _ in range(_TRIES):
            self._number, desired = self._fleet.states.read()
            if desired.is_changing():
                break
            with contextlib.suppress(SupersededError):
                self._write(desired.model_copy(update={"candidate": None}))
                return desired
        raise PromotionInProgressError(
            "another promotion or rollback is in progress: try again when it has finished"
        )

    def make(self, served: ServedModel, previous: ServedModel | None) -> ServedModel:
        """Load the model on all replicas, switch all to it, and test it at the public address."""
        name, former = describe_served(served), self.desired
        try:
            self._write(former.model_copy(update={"candidate": served}))
            limit_s = served.serve.startup_timeout_s + _DOWNLOAD_S
            self._wait(lambda report: name in (report.warm, report.serving), "warm", limit_s)
            if former.current is None or served.since != former.current.since:
                served = since_now(served)
            self._write(DesiredState(current=served, previous=previous, candidate=served, at=now()))
            self._wait(lambda report: report.serving == name, "served", _SWITCH_S)
            key, endpoint = self._settings.read_public_key(), self._settings.endpoint
            require_golden(
                endpoint,
                key,
                served.alias,
                served.artifact,
                served.golden,
                served.abstain_below,
            )
        except BaseException:
            # If another promotion took over, its state stays.
            with contextlib.suppress(SupersededError):
                self._write(former.model_copy(update={"candidate": None}), promoter="")
            raise
        self._write(DesiredState(current=served, previous=previous, at=now()), promoter="")
        logger.info("%d replicas serve %s", len(self._fleet.read_reports()), name)
        return served

    def end(self) -> None:
        """Mark this promotion as finished and keep the served model."""
        self._write(self.desired.model_copy(update={"candidate": None}), promoter="")

    def _write(self, desired: DesiredState, promoter: str | None = None) -> None:
        """Write the next state. Raises `SupersededError` if another promotion took over."""
        promoter = self._name if promoter is None else promoter
        state = desired.model_copy(update={"promoter": promoter, "at": now()})
        self._number = self._fleet.states.write(state, self._number)
        self._written = state

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
                    f"no replica of {self._fleet.alias!r} reports in "
                    f"{self._settings.store_uri}: start `intent serve --follow` with this "
                    "INTENT_STORE and INTENT_FLEET"
                )
            if waited > limit_s:
                slow = ", ".join(report.replica for report in reports if not is_done(report))
                raise ServingError(f"the model is not {what} after {waited:.0f} s on {slow}")
            if waited - beaten > _BEAT_S:
                self._write(self._written)
                beaten = waited
            time.sleep(_EVERY_S)


def _refuse_trial() -> NoReturn:
    raise ConfigError(
        "a fleet does not support trials, because each replica counts its own requests: unset "
        "INTENT_FLEET and run the trial on one machine"
    )
