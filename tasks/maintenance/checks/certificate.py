"""Check when the gateway's TLS certificate expires."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.serving.gateway.certificates import read_expiry

_SOON = timedelta(days=14)


def check_certificate(examination: Examination) -> Iterator[Diagnosis]:
    """Report a certificate that expires within two weeks; renewal is usually a month ahead."""
    settings, now = examination.settings, datetime.now(UTC)
    expiry = read_expiry(settings)
    if expiry and expiry < now + _SOON:
        what = "has expired" if expiry < now else "expires soon"
        yield report_problem(
            "certificate",
            f"{settings.tls_certificate} {what}: {expiry:%Y-%m-%d %H:%M} UTC",
            "replace the file with a renewed certificate; `intent serve` loads it within seconds",
        )
