"""Access to the control planes of Alibaba Cloud (iTAG, PAI-DLC, PAI-EAS) through Alibaba's SDKs.

Exceptions of the SDKs are converted here and not chained, because they contain signatures and
tokens.
"""

import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from intent_core.errors import ConfigError, IntentError, ServiceError

CONNECT_TIMEOUT_MS, READ_TIMEOUT_MS = 5_000, 30_000

_HOW_TO_SIGN_IN = (
    "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET (and "
    "ALIBABA_CLOUD_SECURITY_TOKEN for temporary keys), or use a profile or an ECS or RRSA role"
)
# Patterns of error codes without punctuation, since Alibaba documents few of the codes.
_PASSING = re.compile(
    "throttl|flowcontrol|toomany|busy|unavailable|internal|systemerror|timeout|timedout", re.I
)
_CREDENTIALS = re.compile("signature|accesskey|securitytoken|credential", re.I)
_PERMISSION = re.compile("forbidden|nopermission|denied|unauthori[sz]ed|notauthori[sz]ed", re.I)
_UNKNOWN = re.compile("notfound|notexist|unknown", re.I)


class Plane(NamedTuple):
    """The names and advice for the error messages of a control plane."""

    name: str
    package: str
    extra: str
    """Extra of our package that installs the SDK."""
    example: str
    """An example endpoint."""
    allow: str
    """The required permissions; continues the sentence "Allow these credentials"."""
    correct: str
    """Advice for a resource name that does not exist."""


class AlibabaApi:
    """An SDK's client for one endpoint, with conversion of its errors.

    Raises `ConfigError` if the user must act (credentials, permission, an unknown name) and
    `ServiceError` for transient failures (throttling, 5xx, the network).
    """

    def __init__(self, plane: Plane, endpoint: str) -> None:
        """Create the client without sending a request. A leading http:// disables TLS.

        Credentials come from the standard chain of `alibabacloud_credentials`, which is called for
        every request so that expiring keys are renewed.
        """
        try:
            from alibabacloud_credentials.client import Client as Credentials
            from alibabacloud_tea_openapi.utils_models import Config

            self.models: Any = importlib.import_module(f"{plane.package}.models")
            client = importlib.import_module(f"{plane.package}.client").Client
        except ImportError as error:
            raise ConfigError(
                f"{plane.name} needs the package {error.name}, which is not installed: "
                f"pip install intent-pipeline[{plane.extra}]"
            ) from error
        # At DEBUG it logs every header, including the security token.
        logging.getLogger("darabonba-core").setLevel(logging.WARNING)
        split = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        if split.scheme not in ("http", "https") or not split.hostname or split.path.strip("/"):
            raise ConfigError(
                f"{endpoint!r} is not a valid endpoint of {plane.name}; expected a host such as "
                f"{plane.example}"
            )
        self.endpoint = split.netloc
        self.client: Any = client(
            Config(
                endpoint=split.netloc,
                protocol=split.scheme.upper(),
                credential=Credentials(),
                connect_timeout=CONNECT_TIMEOUT_MS,
                read_timeout=READ_TIMEOUT_MS,
            )
        )
        self._plane = plane
        self._signed_in = False

    @contextmanager
    def alibaba_errors(self, action: str, where: str = "") -> Iterator[str]:
        """Convert exceptions of the SDK; yields the start of the message, with the endpoint."""
        from alibabacloud_credentials.exceptions import CredentialException
        from darabonba.exceptions import ResponseException, RetryError, UnretryableException

        what = f"cannot {action} ({where}{self.endpoint})"
        try:
            yield what
        except ResponseException as error:
            body = error.data if isinstance(error.data, dict) else {}
            message = body.get("Message") or body.get("message") or ""
            raise self.refusal(
                what, error.status_code, error.code, message, error.request_id
            ) from None
        except UnretryableException as error:
            reason = error.inner_exception
            if isinstance(reason, CredentialException):
                if self._signed_in:
                    raise ServiceError(f"{what}: could not renew the credentials") from None
                raise ConfigError(f"{what}: no credentials found: {_HOW_TO_SIGN_IN}") from None
            if isinstance(reason, RetryError):  # the SDK's class for a failed connection
                raise ServiceError(f"{what}: {reason.message}") from None
            raise ServiceError(self.no_answer(what)) from None
        self._signed_in = True

    def no_answer(self, what: str) -> str:
        name = self._plane.name
        return f"{what}: invalid response from {name}; check that the endpoint is {name}"

    def refusal(
        self, what: str, status: int | None, code: Any, message: Any, request_id: Any
    ) -> IntentError:
        """Return the error for a refused request.

        The text of a refused signature is left out, because it contains the signed strings.
        """
        code = str(code or "").strip('"') or "no code"
        bare = re.sub(r"[\W_]", "", code)
        secret = status == 401 or bool(_CREDENTIALS.search(bare))
        text = "" if secret or not message else f": {str(message)[:300]}"
        said = f"{what}: {code}{f' ({status})' if status else ''}{text} [request {request_id}]"
        if (status or 0) >= 500 or status in (408, 429) or _PASSING.search(bare):
            return ServiceError(said)
        if secret:
            return ConfigError(
                f"{said}. The credentials or this machine's clock are wrong: {_HOW_TO_SIGN_IN}"
            )
        if status == 403 or _PERMISSION.search(bare):
            return ConfigError(f"{said}. Allow these credentials {self._plane.allow}")
        if status == 404 or _UNKNOWN.search(bare):
            return ConfigError(f"{said}. {self._plane.correct}")
        return ConfigError(said)


def require_field(what: str, part: Any, name: str) -> str:
    """Return a required field of a response; raise `ServiceError` if it is missing."""
    value = getattr(part, name, None)
    if value is None or value == "":
        raise ServiceError(f"{what}: the response does not contain {name}")
    return str(value)
