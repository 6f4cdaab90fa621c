"""Serving targets: the protocol and the table of its implementations."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from intent_core.models.artifact import ModelArtifact
from intent_core.serving.access.aliases import Trial
from tasks.serving.state import Drift, ServedModel, ServingState
from tasks.settings import Settings


class ServingTarget(Protocol):
    """Serves one public alias. Every method raises `ServiceError` if an external system fails."""

    def read(self) -> ServingState:
        """Return the served model and the previous one."""

    def promote(self, served: ServedModel) -> ServedModel:
        """Serve this model; on any failure the current one stays.

        Raises `ServingError` if the model does not give its golden answers,
        `PromotionInProgressError` while another promotion or rollback is in progress.
        """

    def roll_back(self) -> ServedModel:
        """Serve the previous model. Needs neither MLflow nor Prefect."""

    def reconcile(self) -> tuple[ServedModel | None, list[str]]:
        """Make the servers match the serving state. Returns the served model and the repairs."""

    def find_drift(self) -> Drift | None:
        """Return what `reconcile` would repair; None while a promotion is in progress."""

    def note_version(self, artifact: ModelArtifact, version: str) -> ServedModel | None:
        """Set the registry version of a model promoted without one; None if it is not served."""

    def does_answer(self, served: ServedModel) -> bool:
        """Whether the served model answers everywhere."""

    def replicas(self) -> dict[str, str]:
        """Return each replica's model, or why it serves none; empty without replicas."""

    def protected_models(self) -> set[str]:
        """Return the content names of models that `intent clean` must keep."""

    def require_servers_here(self) -> None:
        """Raise `ConfigError` unless the model servers run on this machine."""

    def start_trial(self, name: str, trial: dict[str, Any]) -> Trial:
        """Route a share of the requests to an accepted model; `trial` has the fields of `Trial`."""

    def stop_trial(self) -> None:
        """Stop the trial and send all requests to the champion."""

    def read_trial(self) -> dict[str, Any] | None:
        """Return the running trial with its results; None without a trial."""


def _open_local(settings: Settings) -> ServingTarget:
    from tasks.serving.targets.local import LocalTarget  # nginx and vLLM's options

    return LocalTarget(settings)


def _open_fleet(settings: Settings) -> ServingTarget:
    from tasks.serving.targets.fleet import FleetTarget

    return FleetTarget(settings)


class TargetKind(NamedTuple):
    """When to use a serving target, and how to open it."""

    is_set: Callable[[Settings], bool]
    open: Callable[[Settings], ServingTarget]


TARGETS = (
    TargetKind(lambda settings: bool(settings.fleet), _open_fleet),
    TargetKind(lambda settings: True, _open_local),
)
"""The first kind that is set is used; the last, this machine, always is."""


def open_target(settings: Settings) -> ServingTarget:
    """Open the target of promotions: the fleet if INTENT_FLEET is set, else this machine."""
    return next(kind.open(settings) for kind in TARGETS if kind.is_set(settings))


def protected_models(settings: Settings) -> set[str]:
    """Return the models that `intent clean` must keep for any target of this home and store."""
    return set().union(*(kind.open(settings).protected_models() for kind in TARGETS))
