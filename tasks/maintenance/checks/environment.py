"""Name the variables that our processes do not get, although other programs of their kind do."""

from collections.abc import Iterator

from tasks.maintenance.checks import Diagnosis, Examination, report_note
from tasks.settings.children import list_dropped


def check_environment(examination: Examination) -> Iterator[Diagnosis]:
    """Report variables of this environment that no process we start gets."""
    if dropped := list_dropped():
        yield report_note(
            "environment",
            f"not passed to the servers and the training: {', '.join(dropped)}",
            "unset them, or name in INTENT_PASS_ENV those that ours need",
        )
