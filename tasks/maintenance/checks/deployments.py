"""Retire what deployments with names of earlier versions still do."""

from collections.abc import Iterator
from functools import partial

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from intent_core.errors import ServiceError
from tasks.maintenance.checks import Diagnosis, Examination, report_note
from tasks.orchestration.old_deployments import Leftover, find_leftovers


def check_deployments(examination: Examination) -> Iterator[Diagnosis]:
    """Pause schedules of deployments with old names, delete their triggers, share their limits."""
    try:
        with get_client(sync_client=True) as client:
            for leftover in list(find_leftovers(client)):
                yield examination.repair(
                    "deployments", leftover.what, leftover.action, partial(_end, leftover)
                )
    except (httpx.HTTPError, PrefectException) as error:
        yield report_note(
            "deployments", f"not checked: Prefect failed: {error}", "run `intent doctor` again"
        )


def _end(leftover: Leftover) -> None:
    try:
        leftover.end()
    except (httpx.HTTPError, PrefectException) as error:
        raise ServiceError(f"Prefect did not accept the change: {error}") from error
