"""Complete an interrupted restore."""

from collections.abc import Iterator
from functools import partial

from tasks.maintenance.backup.restore import finish_restore, is_pending
from tasks.maintenance.checks import Diagnosis, Examination


def check_restore(examination: Examination) -> Iterator[Diagnosis]:
    """Complete a restore that was killed while it moved its files."""
    settings = examination.settings
    if is_pending(settings):
        yield examination.repair(
            "restore",
            "a restore was interrupted while it moved its files",
            "completed; run `intent up` to start the servers",
            partial(finish_restore, settings),
        )
