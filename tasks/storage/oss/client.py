"""Connection to OSS: client, credentials and errors.

Credentials come from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN, else from
`alibabacloud_credentials`: the role of a service account (RRSA), a profile, or the role of an ECS
instance. Exceptions of oss2 are converted here, without their signatures and tokens.
"""

import contextlib
import logging
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import oss2
import requests
import urllib3
from oss2.credentials import Credentials, EnvironmentVariableCredentialsProvider
from oss2.exceptions import InconsistentError, OssError, RequestError, ServerError

from intent_core.errors import ConfigError, IntentError, StorageError
from tasks.storage.objects import InvalidKeyError, MissingObjectError

logger = logging.getLogger(__name__)
# oss2 logs headers with tokens and signatures. Its exceptions are converted below.
logging.getLogger("oss2").setLevel(logging.CRITICAL)

TIMEOUTS_S = (10, 60)
PAUSES_S: tuple[float, ...] = (0.2, 0.6, 1.8)
_HOW_TO_SIGN_IN = (
    "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET (and OSS_SESSION_TOKEN for temporary keys), "
    "or `pip install alibabacloud-credentials` to use an ECS or RRSA role or a profile"
)
_BUCKET_ACTIONS = (
    "oss:ListObjects, oss:GetObject, oss:PutObject, oss:AbortMultipartUpload and oss:DeleteObject"
)
_TO_DO = {
    "SignatureDoesNotMatch": "the secret is wrong: correct OSS_ACCESS_KEY_SECRET",
    "InvalidAccessKeyId": "the access key is unknown or disabled: correct OSS_ACCESS_KEY_ID",
    "InvalidSecurityToken": "the temporary key is wrong: renew OSS_SESSION_TOKEN and its keys",
    "SecurityTokenExpired": "the temporary key expired: renew OSS_SESSION_TOKEN and its keys",
    "AccessDenied": f"the access key lacks a permission: allow it {_BUCKET_ACTIONS}",
    "UserDisable": "the account is disabled: its owner must contact Alibaba Cloud",
    "NoSuchBucket": "the bucket does not exist: create it, or correct the store's URI",
    "InvalidBucketName": "the bucket name is invalid: correct the store's URI",
    "RequestTimeTooSkewed": "the clock of this machine is wrong by over 15 minutes: synchronize it "
    "with NTP",
    "InvalidObjectState": "the object is archived: restore it in the console",
}
_REFUSED = "check the keys, their permissions and INTENT_OSS_ENDPOINT"
_PASSING_CODES = {"InvalidDigest", "RequestTimeout", "TooManyRequests"}
_SHOWN = ("Code", "Message", "EC", "RequestId", "HostId")


class OssOptions(NamedTuple):
    """Endpoint and region, e.g. `https://oss-cn-hangzhou.aliyuncs.com` and `cn-hangzhou`."""

    endpoint: str
    region: str
    progress_folder: Path
    """Folder for the state of multipart transfers."""


class CredentialsChain:
    """An oss2 credentials provider: environment variables, else `alibabacloud_credentials`."""

    def __init__(self) -> None:
        self._client: Any = None
        self._gave = False
        self._lock = threading.Lock()

    def get_credentials(self) -> Credentials:
        """Return the credentials; oss2 calls this for every request, so expiring keys are renewed.

        Raises `ConfigError` if no source has credentials, `StorageError` if a source that gave
        credentials before has stopped.
        """
        try:
            return EnvironmentVariableCredentialsProvider().get_credentials()
        except oss2.exceptions.ClientError:
            pass  # not set: try the next source
        try:
            keys = self._roles().get_credential()
        except Exception as error:  # the package's exceptions have no common base class
            if self._gave:
                raise StorageError(f"could not renew the OSS credentials: {error}") from error
            raise ConfigError(f"no OSS credentials found ({error}): {_HOW_TO_SIGN_IN}") from error
        self._gave = True
        return Credentials(keys.access_key_id, keys.access_key_secret, keys.security_token or "")

    def _roles(self) -> Any:
        with self._lock:
            if self._client is None:
                from alibabacloud_credentials.client import Client

                # It logs a traceback for every source that failed; our error lists them.
                logging.getLogger("credentials").setLevel(logging.CRITICAL)
                self._client = Client()
            return self._client


def open_bucket(name: str, options: OssOptions) -> Any:
    """Return the oss2 bucket without sending a request; `ConfigError` names the wrong setting."""
    endpoint, region, _ = options
    if not endpoint or "@" in endpoint:
        raise ConfigError(
            f"oss://{name} needs an endpoint without user name or password. Set "
            "INTENT_OSS_ENDPOINT, e.g. https://oss-cn-hangzhou.aliyuncs.com"
        )
    if not re.fullmatch(r"(?!oss-)[a-z0-9-]+", region):
        raise ConfigError(
            f"oss://{name} needs a valid region to sign requests, got {region!r}. Set "
            "INTENT_OSS_REGION, e.g. cn-hangzhou"
        )
    if "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    auth = oss2.ProviderAuthV4(CredentialsChain())
    try:
        return oss2.Bucket(auth, endpoint, name, region=region, connect_timeout=TIMEOUTS_S)
    except (OssError, ValueError) as error:
        raise ConfigError(
            f"oss://{name} at INTENT_OSS_ENDPOINT={endpoint}: {getattr(error, 'body', error)}. "
            "A bucket name has 3 to 63 characters of a-z, 0-9 and '-'; an endpoint is https://host"
        ) from error


@contextlib.contextmanager
def oss_errors(action: str, uri: str) -> Iterator[None]:
    """Convert errors of oss2 and of the connection to `ConfigError` or `StorageError`."""
    try:
        yield
    except IntentError:
        raise
    except ServerError as error:
        raise _refusal(f"cannot {action} {uri}", error) from _scrubbed(error)
    except oss2.exceptions.ClientError as error:
        raise ConfigError(f"cannot {action} {uri}: {error.body}") from error
    except InconsistentError as error:
        raise StorageError(f"cannot {action} {uri}: CRC64 mismatch after the transfer") from error
    except (OssError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = getattr(error, "exception", error)
        raise StorageError(
            f"cannot {action} {uri}: {type(reason).__name__}: {reason}. Check INTENT_OSS_ENDPOINT "
            "and the network of this machine"
        ) from error
    except (ParseError, RuntimeError) as error:
        raise StorageError(f"cannot {action} {uri}: invalid response from OSS: {error}") from error


def is_passing(error: BaseException | None) -> bool:
    """Return whether an error of oss2 or of the connection is transient."""
    if isinstance(error, ServerError):
        return error.status >= 500 or error.status in (408, 429) or error.code in _PASSING_CODES
    kinds = InconsistentError, RequestError, requests.RequestException, urllib3.exceptions.HTTPError
    return isinstance(error, (*kinds, ParseError, RuntimeError))


def pause(failures: int, error: StorageError) -> None:
    """Wait before the next attempt; raise the error if it is permanent or no attempts are left."""
    if failures > len(PAUSES_S) or not is_passing(error.__cause__):
        raise error
    seconds = PAUSES_S[failures - 1] * random.uniform(0.5, 1.5)
    logger.info("%s. Retrying in %.1f s", error, seconds)
    time.sleep(seconds)


def code_of(error: StorageError) -> str:
    """Return the OSS error code behind an error; "" if there is no code."""
    return str(getattr(error.__cause__, "code", ""))


def _refusal(failed: str, error: ServerError) -> IntentError:
    answer = f"{error.status} {error.code}".strip()
    answer += f", request {error.request_id}" if error.request_id else ""
    if error.status == 404 and error.code in ("", "NoSuchKey"):
        return MissingObjectError(f"{failed}: the object does not exist ({answer})")
    if error.status == 412:
        return StorageError(f"{failed}: the object changed during the transfer ({answer})")
    if error.status >= 500 or error.code in _PASSING_CODES:
        return StorageError(f"{failed}: OSS failed ({answer}): {error.message}")
    if error.code in _TO_DO:
        # The message may contain the correct endpoint of the bucket.
        said = f": {error.message}" if error.code == "AccessDenied" else ""
        return ConfigError(f"{failed}: {_TO_DO[error.code]} ({answer}){said}")
    if error.code == "InvalidArgument" and "region" in error.message:
        return ConfigError(f"{failed}: {error.message}: correct INTENT_OSS_REGION ({answer})")
    if error.code == "InvalidObjectName":
        return InvalidKeyError(f"{failed}: OSS does not accept this key ({answer})")
    if error.status in (401, 403):
        return ConfigError(f"{failed}: {error.message or 'refused'}: {_REFUSED} ({answer})")
    return StorageError(f"{failed}: {error.message or 'refused'} ({answer})")


def _scrubbed(error: ServerError) -> ServerError:
    """Remove the signed strings, which contain the session token, before a traceback is printed."""
    error.details = {name: error.details[name] for name in _SHOWN if name in error.details}
    error.body, error.args = b"", (error.status, error.code)
    return error
