"""Check the store for names that listings skip."""

from collections.abc import Iterator

from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.storage.layout import AREAS
from tasks.storage.step_results import get_store

_MOST_SHOWN = 20


def check_names(examination: Examination) -> Iterator[Diagnosis]:
    """Report names in the store's areas that are not those of readable objects."""
    store = get_store(examination.settings)
    skipped = [name for area in AREAS for name in store.list_skipped(area.prefix)]
    for name, reason in skipped[:_MOST_SHOWN]:
        yield report_problem(
            "names",
            f"{name!r} in the store is skipped: it {reason}",
            "rename it, remove it, or make it readable",
        )
    if (more := len(skipped) - _MOST_SHOWN) > 0:
        yield report_problem("names", f"{more} more names are skipped", "fix those above first")
