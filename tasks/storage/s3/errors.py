"""Conversion of boto3's exceptions to the errors of this project.

A failure that the user must fix (a setting, a permission) is a `ConfigError` and is not retried; a
transient failure of server or network is a `StorageError`. Messages contain the server's error
code, never the whole response, which may repeat parts of a signed request.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    InvalidConfigError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError, S3ValidationError

from intent_core.errors import ConfigError, IntentError, StorageError
from tasks.storage.objects import InvalidKeyError

_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or your profile or role)"
_CLOCK = "the clock of this machine is wrong: synchronize it with NTP"
_REGION = "the bucket is in another region: set INTENT_S3_REGION and INTENT_S3_ENDPOINT_URL to it"
_RENEW = "the session credentials have expired: renew them"
_REMEDIES = {
    "SignatureDoesNotMatch": f"the secret key is wrong: check {_KEYS}; if they are right, check "
    "INTENT_S3_REGION and INTENT_S3_SIGNATURE_VERSION",
    "InvalidAccessKeyId": f"the access key is unknown to the server: check {_KEYS}",
    "InvalidToken": f"the session token is wrong: check AWS_SESSION_TOKEN, {_KEYS}",
    "ExpiredToken": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "AccessDenied": "the access key lacks a permission: allow it s3:GetObject, s3:PutObject, "
    "s3:DeleteObject and s3:ListBucket (without the last, a missing object is denied too)",
    "AllAccessDisabled": "the bucket is disabled: contact its owner",
    "NoSuchBucket": "the bucket does not exist: create it, or correct INTENT_STORE and "
    "INTENT_S3_ENDPOINT_URL",
    "InvalidBucketName": "the bucket name is invalid: correct INTENT_STORE",
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "SecondLevelDomainForbidden": "the server requires the bucket in the host name: set "
    "INTENT_S3_ADDRESSING_STYLE=virtual",
}
_INVALID_KEY = ("KeyTooLongError", "InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName")
# The response to HEAD has no body, so the status is the only code.
_BY_STATUS = {301: "PermanentRedirect", 403: "AccessDenied"}
_SETTINGS = (InvalidConfigError, NoRegionError, ParamValidationError, ProfileNotFound)


@contextlib.contextmanager
def s3_errors(action: str, uri: str) -> Iterator[None]:
    """Convert exceptions of boto3 to `ConfigError` or `StorageError`."""
    try:
        yield
    except ClientError as error:
        raise _of_answer(f"cannot {action} {uri}", error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigError(f"cannot {action} {uri}: no credentials found: set {_KEYS}") from error
    except _SETTINGS as error:
        raise ConfigError(f"cannot {action} {uri}: {error}") from error
    except S3DownloadFailedError as error:  # `If-Match` did not match
        raise StorageError(f"{uri} was replaced during the download") from error
    except S3ValidationError as error:
        raise StorageError(f"{uri}: the server sent a different range than requested") from error
    except RetriesExceededError as error:
        raise StorageError(f"cannot {action} {uri}: {_of_network(error.last_exception)}") from error
    except BotoCoreError as error:
        raise StorageError(f"cannot {action} {uri}: {_of_network(error)}") from error


def code_of(error: ClientError) -> str:
    """Return the server's error code, such as NoSuchKey."""
    code = str(_part(error, "Error").get("Code", ""))
    return _BY_STATUS.get(status_of(error), code) if not code or code.isdigit() else code


def status_of(error: ClientError) -> int:
    return int(_part(error, "ResponseMetadata").get("HTTPStatusCode", 0))


def num_retries_of(error: ClientError) -> int:
    """Return how often the client retried the request before this response."""
    return int(_part(error, "ResponseMetadata").get("RetryAttempts", 0))


def _part(error: ClientError, name: str) -> dict[str, Any]:
    part: dict[str, Any] = error.response.get(name) or {}
    return part


def _of_answer(message: str, error: ClientError) -> IntentError:
    code, status = code_of(error), status_of(error)
    if code in _INVALID_KEY:
        return InvalidKeyError(f"{message}: {code}: the server does not accept this key")
    if code in _REMEDIES:
        return ConfigError(f"{message}: {code}: {_REMEDIES[code]}")
    if status == 507 or code in ("InsufficientStorage", "XMinioStorageFull"):
        return StorageError(f"{message}: {code or status}: the server's disk is full")
    if status >= 500 or code in ("SlowDown", "Throttling", "RequestTimeout"):
        return StorageError(f"{message}: {code or status}: the server is overloaded or failing")
    return StorageError(f"{message}: the server refused with {code or 'status'} ({status})")


def _of_network(error: Exception) -> str:
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return "could not connect: check INTENT_S3_ENDPOINT_URL and that the server is running"
    if isinstance(error, ReadTimeoutError):
        return "the server did not answer within the timeout"
    return f"the connection failed or was lost ({type(error).__name__})"
