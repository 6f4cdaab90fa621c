"""Check the store: names that listings skip, and whether objects are written only once."""

from collections.abc import Iterator

from intent_core.errors import IntentError
from tasks.maintenance.checks import Diagnosis, Examination, report_note, report_problem
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


def check_write_once(examination: Examination) -> Iterator[Diagnosis]:
    """Warn of a bucket in which two processes can both write what must be written once."""
    settings = examination.settings
    try:
        reason = get_store(settings).describe_overwriting()
    except IntentError as error:
        yield report_note("write-once", f"not checked: {error}", "allow oss:GetBucketVersioning")
        return
    if reason:
        yield report_problem(
            "write-once",
            f"{settings.store_uri} may overwrite what must be written once: {reason}",
            "use a bucket without versioning; until then do not promote a fleet from two machines "
            "at the same time",
        )
