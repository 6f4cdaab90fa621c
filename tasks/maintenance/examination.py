"""One look at what was left behind: what is found, what is done about it, what is only said."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.errors import IntentError
from tasks.settings import Settings

Outcome = Literal["repaired", "would repair", "for a person", "note"]


class Finding(BaseModel):
    """Something that is not as it should be, and what became of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    what: str
    outcome: Outcome
    action: str
    """What was done or would be; for a person, what to do."""


class Examination:
    """What the checks share: the settings, whether to repair, and which runs are known dead."""

    def __init__(self, settings: Settings, *, dry_run: bool = False) -> None:
        self.settings = settings
        self.dry_run = dry_run
        self.dead_runs: set[str] = set()
        """Prefect runs that this examination has found without a process."""

    def repair(self, check: str, what: str, action: str, work: Callable[[], object]) -> Finding:
        """Do the work unless this is a dry run; one that fails is left for a person."""
        if self.dry_run:
            return Finding(check=check, what=what, outcome="would repair", action=action)
        try:
            work()
        except IntentError as error:
            return leave(check, what, f"{action} failed: {error}")
        return Finding(check=check, what=what, outcome="repaired", action=action)


def leave(check: str, what: str, remedy: str) -> Finding:
    """Left for a person, with what to do."""
    return Finding(check=check, what=what, outcome="for a person", action=remedy)


def note(check: str, what: str, remedy: str) -> Finding:
    """Worth knowing; nothing is wrong."""
    return Finding(check=check, what=what, outcome="note", action=remedy)
