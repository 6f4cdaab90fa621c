"""Where models are served: one protocol, and one table of its implementations."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from intent_core.models.artifact import ModelArtifact
from intent_core.serving.access.aliases import Trial
from tasks.serving.state import Drift, ServedModel, ServingState
from tasks.settings import Settings


class ServingTarget(Protocol):
    """What serves one public alias. Each method raises `ServiceError` for a system that fails."""

    def read(self) -> ServingState:
        """The served model and the previous one."""

    def promote(self, served: ServedModel) -> ServedModel:
        """Serve this model; on any failure the previous one is still served.

        Raises `ServingError` when it does not give its golden answers,
        `PromotionInProgressError` while another promotion or rollback is in progress.
        """

    def roll_back(self) -> ServedModel:
        """Serve the previous model. Needs neither MLflow nor Prefect."""

    def reconcile(self) -> tuple[ServedModel | None, list[str]]:
        """Make true what the state says. Returns the served model and the repairs."""

    def find_drift(self) -> Drift | None:
        """What `reconcile` would repair; None while a promotion is in progress."""

    def note_version(self, artifact: ModelArtifact, version: str) -> ServedModel | None:
        """Set the registry's version of a model promoted without one; None: another is served."""

    def does_answer(self, served: ServedModel) -> bool:
        """Does the served model answer everywhere?"""

    def replicas(self) -> dict[str, str]:
        """What each replica serves, or why it serves nothing; empty without replicas."""

    def protected_models(self) -> set[str]:
        """Content names of models that cleaning must keep."""

    def require_servers_here(self) -> None:
        """Raise `ConfigError` unless the model servers run on this machine."""

    def start_trial(self, name: str, trial: dict[str, Any]) -> Trial:
        """Give an accepted model a share of the requests; `trial` as in `Trial`."""

    def stop_trial(self) -> None:
        """Give all requests to the champion."""

    def read_trial(self) -> dict[str, Any] | None:
        """The trial in progress with its results; None without one."""


def _open_local(settings: Settings) -> ServingTarget:
    from tasks.serving.targets.local import LocalTarget  # nginx and vLLM's options

    return LocalTarget(settings)


def _open_fleet(settings: Settings) -> ServingTarget:
    from tasks.serving.targets.fleet import FleetTarget

    return FleetTarget(settings)


class TargetKind(NamedTuple):
    """When a serving target is the one to command, and how it is opened."""

    is_set: Callable[[Settings], bool]
    open: Callable[[Settings], ServingTarget]


TARGETS = (
    TargetKind(lambda settings: bool(settings.fleet), _open_fleet),
    TargetKind(lambda settings: True, _open_local),
)
"""The first that is set is commanded; this machine where none is."""


def open_target(settings: Settings) -> ServingTarget:
    """Where this process's promotions go: a fleet if one is set, else this machine."""
    return next(kind.open(settings) for kind in TARGETS if kind.is_set(settings))


def protected_models(settings: Settings) -> set[str]:
    """What cleaning must keep, whichever targets use this home and this store."""
    return set().union(*(kind.open(settings).protected_models() for kind in TARGETS))
