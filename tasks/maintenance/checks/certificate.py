"""The public address's certificate, before it expires."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.serving.gateway.certificates import read_expiry

_SOON = timedelta(days=14)


def check_certificate(examination: Examination) -> Iterator[Diagnosis]:
    """It is valid for two more weeks. Renewals usually come a month before the end."""
    settings, now = examination.settings, datetime.now(UTC)
    expiry = read_expiry(settings)
    if expiry and expiry < now + _SOON:
        what = "has expired" if expiry < now else "expires soon"
        yield report_problem(
            "certificate",
            f"{settings.tls_certificate} {what}: {expiry:%Y-%m-%d %H:%M} UTC",
            "renew it in its place; `intent serve` takes it within seconds",
        )
