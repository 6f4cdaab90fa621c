"""A restore that was interrupted."""

from collections.abc import Iterator
from functools import partial

from tasks.maintenance.backup.restore import finish_restore, is_pending
from tasks.maintenance.checks import Diagnosis, Examination


def check_restore(examination: Examination) -> Iterator[Diagnosis]:
    """A restore that was killed while it moved its files is ended."""
    settings = examination.settings
    if is_pending(settings):
        yield examination.repair(
            "restore",
            "a restore was cut off while it moved its files",
            "ended; `intent up` starts the servers on them",
            partial(finish_restore, settings),
        )
