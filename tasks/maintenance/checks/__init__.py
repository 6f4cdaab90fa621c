"""Checks of `intent doctor`: each yields a diagnosis of what is wrong, and repairs it if it can."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.errors import IntentError
from tasks.settings import Settings

Outcome = Literal["repaired", "would repair", "for a person", "note"]


class Diagnosis(BaseModel):
    """Something that is not as it should be, and what became of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    what: str
    outcome: Outcome
    action: str
    """What was done or would be; for a person, what to do."""


class Examination:
    """What the checks share: the settings, whether to repair, and which runs are known dead."""

    def __init__(
        self, settings: Settings, *, dry_run: bool = False, set_lifecycle: bool = False
    ) -> None:
        self.settings = settings
        self.dry_run = dry_run
        self.set_lifecycle = set_lifecycle
        """Whether lifecycle rules that a bucket lacks are added."""
        self.dead_runs: set[str] = set()
        """Prefect runs that this examination has found without a process."""

    def repair(self, check: str, what: str, action: str, work: Callable[[], object]) -> Diagnosis:
        """Do the work unless this is a dry run; one that fails is left for a person."""
        if self.dry_run:
            return Diagnosis(check=check, what=what, outcome="would repair", action=action)
        try:
            work()
        except IntentError as error:
            return report_problem(check, what, f"{action} failed: {error}")
        return Diagnosis(check=check, what=what, outcome="repaired", action=action)


def report_problem(check: str, what: str, remedy: str) -> Diagnosis:
    """Left for a person, with what to do."""
    return Diagnosis(check=check, what=what, outcome="for a person", action=remedy)


def report_note(check: str, what: str, remedy: str) -> Diagnosis:
    """Worth knowing; nothing is wrong."""
    return Diagnosis(check=check, what=what, outcome="note", action=remedy)
