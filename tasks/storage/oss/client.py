"""How OSS is reached, with whose keys, and what its refusals mean.

Credentials come from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN, else from
`alibabacloud_credentials`: a service account's role (RRSA), a profile, an ECS instance's role.
Foreign exceptions are translated here, once, without what they hold of signatures and tokens.
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
from tasks.storage.objects import MissingObjectError

logger = logging.getLogger(__name__)
# Its lines hold headers with tokens and signatures; what it raises is translated here.
logging.getLogger("oss2").setLevel(logging.CRITICAL)

TIMEOUTS_S = (10, 60)
PAUSES_S: tuple[float, ...] = (0.2, 0.6, 1.8)
_HOW_TO_SIGN_IN = (
    "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET (and OSS_SESSION_TOKEN for temporary keys), "
    "or `pip install alibabacloud-credentials` for a role of ECS or RRSA or a profile"
)
_BUCKET_ACTIONS = (
    "oss:ListObjects, oss:GetObject, oss:PutObject, oss:AbortMultipartUpload and oss:DeleteObject"
)
_TO_DO = {
    "SignatureDoesNotMatch": "the secret is wrong: correct OSS_ACCESS_KEY_SECRET",
    "InvalidAccessKeyId": "the access key is unknown or disabled: correct OSS_ACCESS_KEY_ID",
    "InvalidSecurityToken": "the temporary key is wrong: renew OSS_SESSION_TOKEN and its keys",
    "SecurityTokenExpired": "the temporary key expired: renew OSS_SESSION_TOKEN and its keys",
    "AccessDenied": f"these keys may not do this: allow them {_BUCKET_ACTIONS}",
    "UserDisable": "the account is disabled: its owner must settle that with Alibaba Cloud",
    "NoSuchBucket": "there is no such bucket: create it, or correct the store's URI",
    "InvalidBucketName": "the bucket's name is malformed: correct the store's URI",
    "RequestTimeTooSkewed": "this machine's clock is off by over 15 minutes: synchronise it",
    "InvalidObjectState": "the object is archived: restore it in the console",
}
_REFUSED = "check the keys, their permissions and INTENT_OSS_ENDPOINT"
_PASSING_CODES = {"InvalidDigest", "RequestTimeout", "TooManyRequests"}
_SHOWN = ("Code", "Message", "EC", "RequestId", "HostId")


class OssOptions(NamedTuple):
    """Where the buckets are: `https://oss-cn-hangzhou.aliyuncs.com` and `cn-hangzhou`."""

    endpoint: str
    region: str
    progress_folder: Path
    """Where transfers in parts note what is done."""


class CredentialsChain:
    """An oss2 credentials provider; asks `alibabacloud_credentials` where variables are unset."""

    def __init__(self) -> None:
        self._client: Any = None
        self._gave = False
        self._lock = threading.Lock()

    def get_credentials(self) -> Credentials:
        """Called for every request, so that keys that expire are renewed in time.

        Raises `ConfigError` when nothing gives credentials, `StorageError` when what gave some
        before does so no more.
        """
        try:
            return EnvironmentVariableCredentialsProvider().get_credentials()
        except oss2.exceptions.ClientError:
            pass  # not set: the next link of the chain
        try:
            keys = self._roles().get_credential()
        except Exception as error:  # the package has no common root of its errors
            if self._gave:
                raise StorageError(f"credentials for OSS were not renewed: {error}") from error
            raise ConfigError(f"no credentials for OSS ({error}): {_HOW_TO_SIGN_IN}") from error
        self._gave = True
        return Credentials(keys.access_key_id, keys.access_key_secret, keys.security_token or "")

    def _roles(self) -> Any:
        with self._lock:
            if self._client is None:
                from alibabacloud_credentials.client import Client

                # It prints every link that failed with a traceback; our error tells them.
                logging.getLogger("credentials").setLevel(logging.CRITICAL)
                self._client = Client()
            return self._client


def open_bucket(name: str, options: OssOptions) -> Any:
    """The oss2 bucket, not yet asked for anything; `ConfigError` says which setting is wrong."""
    endpoint, region, _ = options
    if not endpoint or "@" in endpoint:
        raise ConfigError(
            f"oss://{name} needs an endpoint without name or password: set INTENT_OSS_ENDPOINT, "
            "as https://oss-cn-hangzhou.aliyuncs.com"
        )
    if not re.fullmatch(r"(?!oss-)[a-z0-9-]+", region):
        raise ConfigError(
            f"oss://{name} needs a region for its signatures, not {region!r}: set "
            "INTENT_OSS_REGION, as cn-hangzhou"
        )
    if "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    auth = oss2.ProviderAuthV4(CredentialsChain())
    try:
        return oss2.Bucket(auth, endpoint, name, region=region, connect_timeout=TIMEOUTS_S)
    except (OssError, ValueError) as error:
        raise ConfigError(
            f"oss://{name} at INTENT_OSS_ENDPOINT={endpoint}: {getattr(error, 'body', error)}. "
            "A bucket has 3 to 63 of a-z, 0-9 and '-'; an endpoint is https://host"
        ) from error


@contextlib.contextmanager
def oss_errors(action: str, uri: str) -> Iterator[None]:
    """The one place where an error of oss2 or of the connection becomes one of ours."""
    try:
        yield
    except IntentError:
        raise
    except ServerError as error:
        raise _refusal(f"cannot {action} {uri}", error) from _scrubbed(error)
    except oss2.exceptions.ClientError as error:
        raise ConfigError(f"cannot {action} {uri}: {error.body}") from error
    except InconsistentError as error:
        raise StorageError(f"cannot {action} {uri}: its CRC64 differs at the service") from error
    except (OssError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = getattr(error, "exception", error)
        raise StorageError(
            f"cannot {action} {uri}: {type(reason).__name__}: {reason}: check INTENT_OSS_ENDPOINT "
            "and this machine's network"
        ) from error
    except (ParseError, RuntimeError) as error:
        raise StorageError(f"cannot {action} {uri}: no answer of OSS: {error}") from error


def is_passing(error: BaseException | None) -> bool:
    """Whether a foreign error is one that another try may not meet."""
    if isinstance(error, ServerError):
        return error.status >= 500 or error.status in (408, 429) or error.code in _PASSING_CODES
    kinds = InconsistentError, RequestError, requests.RequestException, urllib3.exceptions.HTTPError
    return isinstance(error, (*kinds, ParseError, RuntimeError))


def pause(failures: int, error: StorageError) -> None:
    """Wait before another try; raises the error when there is to be none."""
    if failures > len(PAUSES_S) or not is_passing(error.__cause__):
        raise error
    seconds = PAUSES_S[failures - 1] * random.uniform(0.5, 1.5)
    logger.info("%s. Trying again in %.1f s", error, seconds)
    time.sleep(seconds)


def code_of(error: StorageError) -> str:
    """The service's own code for the refusal behind an error; empty where it has none."""
    return str(getattr(error.__cause__, "code", ""))


def _refusal(failed: str, error: ServerError) -> IntentError:
    answer = f"{error.status} {error.code}".strip()
    answer += f", request {error.request_id}" if error.request_id else ""
    if error.status == 404 and error.code in ("", "NoSuchKey"):
        return MissingObjectError(f"{failed}: there is no such object ({answer})")
    if error.status == 412:
        return StorageError(f"{failed}: it changed under way ({answer})")
    if error.status >= 500 or error.code in _PASSING_CODES:
        return StorageError(f"{failed}: OSS failed ({answer}): {error.message}")
    if error.code in _TO_DO:
        # Its message may name the endpoint that the bucket has in truth.
        said = f": {error.message}" if error.code == "AccessDenied" else ""
        return ConfigError(f"{failed}: {_TO_DO[error.code]} ({answer}){said}")
    if error.code == "InvalidArgument" and "region" in error.message:
        return ConfigError(f"{failed}: {error.message}: correct INTENT_OSS_REGION ({answer})")
    if error.status in (401, 403):
        return ConfigError(f"{failed}: {error.message or 'refused'}: {_REFUSED} ({answer})")
    return StorageError(f"{failed}: {error.message or 'refused'} ({answer})")


def _scrubbed(error: ServerError) -> ServerError:
    """Without the strings to sign, which hold the session's token: tracebacks are printed."""
    error.details = {name: error.details[name] for name in _SHOWN if name in error.details}
    error.body, error.args = b"", (error.status, error.code)
    return error
