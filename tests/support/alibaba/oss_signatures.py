"""OSS header signatures, versions 1 and 4, computed and checked by the published rules.

Written from the documentation (Include a V1 / V4 signature in the Authorization header) without
code of oss2; `test_oss_emulator` compares it with published values.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote

ALGORITHM = "OSS4-HMAC-SHA256"
MOST_SKEW_S = 15 * 60
# The sub-resources and overrides that V1 signs, limited to those in our requests.
_SIGNED_V1 = {"acl", "uploads", "uploadId", "partNumber", "delete", "versionId", "objectMeta"}
_SIGNED_V1 |= {"continuation-token", "x-oss-process", "security-token", "response-content-type"}
# The documentation has the additional headers before the signature, oss2 after it.
_V4 = re.compile(
    rf"{ALGORITHM} Credential=(?P<key>[^/,]+)/(?P<date>\d{{8}})/(?P<region>[^/]+)/oss/"
    r"aliyun_v4_request(?:, ?AdditionalHeaders=(?P<before>[^,]*))?"
    r", ?Signature=(?P<sum>[0-9a-f]{64})(?:, ?AdditionalHeaders=(?P<after>[^,]*))?"
)
_V1 = re.compile(r"OSS (?P<key>[^:]+):(?P<sum>.+)")


class Refused(Exception):
    """An error response of the service."""

    def __init__(self, status: int, code: str, message: str, signed: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.signed = status, code, message, signed


class Signed(Protocol):
    """A request with lower-case header names and decoded path and query."""

    @property
    def method(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


def check_signature(
    request: Signed, bucket: str, secrets: Mapping[str, str], region: str, now: float
) -> str:
    """Return the id of the access key; raise `Refused` like the service."""
    authorization = request.headers.get("authorization", "")
    v4, v1 = _V4.fullmatch(authorization), _V1.fullmatch(authorization)
    found = v4 or v1
    if found is None:
        raise Refused(403, "AccessDenied", "Anonymous access is forbidden for this operation.")
    secret = secrets.get(found["key"])
    if secret is None:
        raise Refused(403, "InvalidAccessKeyId", "The Access Key Id does not exist.")
    if abs(_time_of(request.headers) - now) > MOST_SKEW_S:
        raise Refused(403, "RequestTimeTooSkewed", "The time differs too much from the server's.")
    if v4:
        if v4["region"] != region:
            raise Refused(400, "InvalidArgument", "Invalid signing region in Authorization header.")
        if request.headers.get("x-oss-date", "")[:8] != v4["date"]:
            raise Refused(400, "InvalidArgument", "Invalid signing date in Authorization header.")
        additional = (v4["before"] or v4["after"] or "").split(";")
        expected, signed = sign_v4(request, bucket, secret, region, additional)
    else:
        expected, signed = sign_v1(request, bucket, secret)
    if not hmac.compare_digest(expected, found["sum"]):
        message = "The request signature we calculated does not match the one you provided."
        raise Refused(403, "SignatureDoesNotMatch", message, signed)
    return str(found["key"])


def sign_v1(request: Signed, bucket: str, secret: str) -> tuple[str, str]:
    """Return the signature and the signed string."""
    headers = request.headers
    own = [f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if _is_own(name)]
    resource = f"/{bucket}/{request.key}" if bucket else "/"
    signed = sorted((n, v) for n, v in request.query.items() if n in _SIGNED_V1)
    if signed:
        resource += "?" + "&".join(f"{name}={value}" if value else name for name, value in signed)
    text = "\n".join(
        [
            request.method,
            headers.get("content-md5", ""),
            headers.get("content-type", ""),
            headers.get("x-oss-date") or headers.get("date", ""),
            "".join(own) + resource,
        ]
    )
    digest = hmac.digest(secret.encode(), text.encode(), "sha1")
    return base64.b64encode(digest).decode(), text


def sign_v4(
    request: Signed, bucket: str, secret: str, region: str, additional: "list[str]"
) -> tuple[str, str]:
    """Return the signature and the canonical request, dated by the `x-oss-date` header."""
    headers, moment = request.headers, request.headers["x-oss-date"]
    others = {"content-type", "content-md5", *additional}
    chosen = sorted(name for name in headers if _is_own(name) or name in others)
    query = sorted((quote(n, safe=""), quote(v, safe="")) for n, v in request.query.items())
    text = "\n".join(
        [
            request.method,
            quote(f"/{bucket}/{request.key}" if bucket else "/", safe="/"),
            "&".join(f"{name}={value}" if value else name for name, value in query),
            "".join(f"{name}:{headers[name].strip()}\n" for name in chosen),
            ";".join(sorted(filter(None, additional))),
            headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )
    scope = [moment[:8], region, "oss", "aliyun_v4_request"]
    key = f"aliyun_v4{secret}".encode()
    for step in scope:
        key = hmac.digest(key, step.encode(), "sha256")
    hashed = hashlib.sha256(text.encode()).hexdigest()
    to_sign = "\n".join([ALGORITHM, moment, "/".join(scope), hashed])
    return hmac.digest(key, to_sign.encode(), "sha256").hex(), text


def _is_own(name: str) -> bool:
    return name.startswith("x-oss-")


def _time_of(headers: Mapping[str, str]) -> float:
    try:
        if moment := headers.get("x-oss-date"):
            return datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError) as error:
        raise Refused(403, "AccessDenied", "A request needs a valid Date header.") from error
