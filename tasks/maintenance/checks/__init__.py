"""The checks of `intent doctor`: each yields diagnoses and repairs what it can."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.errors import IntentError
from tasks.settings import Settings

Outcome = Literal["repaired", "would repair", "manual fix", "note"]


class Diagnosis(BaseModel):
    """A problem and its outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    what: str
    outcome: Outcome
    action: str
    """What was or would be done; for a manual fix, what the user should do."""


class Examination:
    """The state that checks share: the settings, whether to repair, and the dead runs found."""

    def __init__(
        self, settings: Settings, *, dry_run: bool = False, set_lifecycle: bool = False
    ) -> None:
        self.settings = settings
        self.dry_run = dry_run
        self.set_lifecycle = set_lifecycle
        """Whether to add lifecycle rules that the bucket lacks."""
        self.dead_runs: set[str] = set()
        """Ids of the Prefect runs that were found dead."""

    def repair(self, check: str, what: str, action: str, work: Callable[[], object]) -> Diagnosis:
        """Run the repair `work` unless this is a dry run; a failed repair needs a manual fix."""
        if self.dry_run:
            return Diagnosis(check=check, what=what, outcome="would repair", action=action)
        try:
            work()
        except IntentError as error:
            return report_problem(check, what, f"repair failed ({action}): {error}")
        return Diagnosis(check=check, what=what, outcome="repaired", action=action)


def report_problem(check: str, what: str, remedy: str) -> Diagnosis:
    """Return a diagnosis that needs a manual fix; `remedy` describes it."""
    return Diagnosis(check=check, what=what, outcome="manual fix", action=remedy)


def report_note(check: str, what: str, remedy: str) -> Diagnosis:
    """Return a diagnosis that is informational only."""
    return Diagnosis(check=check, what=what, outcome="note", action=remedy)
