"""Convert headers and bodies between S3's and OSS's dialects."""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.support.alibaba.oss_signatures import Refused

_KEPT_ASKED = ("content-type", "content-md5", "range", "if-match", "if-none-match")
_KEPT_ASKED += ("if-unmodified-since",)
_KEPT_ANSWERED = ("Content-Type", "Content-Range", "Last-Modified", "Content-Length")


def asked_of_s3(headers: Mapping[str, str]) -> dict[str, str]:
    """Convert request headers to S3; OSS has upper-case etags with optional quotes."""
    renamed = {name: headers[name] for name in _KEPT_ASKED if name in headers}
    if "if-match" in renamed:
        etag = renamed["if-match"].strip('"').lower()
        renamed["if-match"] = f'"{etag}"'
    if headers.get("x-oss-forbid-overwrite") == "true":
        renamed["if-none-match"] = "*"
    for name, value in headers.items():
        if name.startswith("x-oss-meta-"):
            renamed[name.replace("x-oss-", "x-amz-", 1)] = value
    return renamed


def answered_by_oss(headers: Mapping[str, str]) -> dict[str, str]:
    renamed = {name: headers[name] for name in _KEPT_ANSWERED if name in headers}
    for name, value in headers.items():
        if name.lower().startswith(("x-amz-meta-", "x-amz-version-id")):
            renamed[name.lower().replace("x-amz-", "x-oss-", 1)] = value
    return renamed


def parts_of_s3(body: bytes) -> bytes:
    """Convert the list of parts that completes an upload to S3's lower-case etags."""
    return re.sub(rb"<ETag>[^<]*</ETag>", lambda m: m[0][:6] + m[0][6:-7].lower() + m[0][-7:], body)


def without_namespace(body: bytes) -> bytes:
    return re.sub(rb'\sxmlns="[^"]*"', b"", body, count=1)


class Listed(NamedTuple):
    key: str
    etag: str
    size: str
    changed: str


def listed_by_s3(body: bytes) -> tuple[list[Listed], str]:
    """Return the objects of a page, and the token of the next page or ""."""
    root = ElementTree.fromstring(without_namespace(body))
    fields = ("Key", "ETag", "Size", "LastModified")
    objects = [Listed(*(c.findtext(f, "") for f in fields)) for c in root.findall("Contents")]
    return objects, root.findtext("NextContinuationToken", "")


def listing_of_oss(objects: Iterable[Listed], token: str, most: int) -> bytes:
    """Return a page in encoding-type=url, sorted by key bytes, which SeaweedFS does not do."""
    ordered = sorted(objects, key=lambda found: found.key.encode())
    left = [found for found in ordered if found.key.encode() > token.encode()]
    page, rest = left[:most], left[most:]
    last = quote(page[-1].key) if rest else ""
    next_token = f"<NextContinuationToken>{last}</NextContinuationToken>" if rest else ""
    contents = "".join(
        f"<Contents><Key>{quote(found.key)}</Key><ETag>{escape(found.etag.upper())}</ETag>"
        f"<LastModified>{found.changed[:19]}.000Z</LastModified><Type>Normal</Type>"
        f"<Size>{found.size}</Size><StorageClass>Standard</StorageClass></Contents>"
        for found in page
    )
    return (
        "<ListBucketResult><EncodingType>url</EncodingType>"
        f"<IsTruncated>{'true' if rest else 'false'}</IsTruncated>"
        f"{next_token}{contents}</ListBucketResult>"
    ).encode()


def error_of_oss(refused: Refused) -> tuple[dict[str, str], bytes]:
    """Return headers and body; the response to HEAD has the body in a header."""
    told = {"Code": refused.code, "Message": refused.message, "StringToSign": refused.signed}
    fields = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in told.items() if text)
    body = f"<Error>{fields}</Error>".encode()
    return {"x-oss-err": base64.b64encode(body).decode(), "Content-Type": "application/xml"}, body


def uploads_of_oss(body: bytes) -> bytes:
    """Convert a list of unfinished uploads; OSS always includes the next-page markers."""
    body, end = without_namespace(body), b"</ListMultipartUploadsResult>"
    for name in (b"NextKeyMarker", b"NextUploadIdMarker"):
        if name not in body:
            body = body.replace(end, b"<" + name + b"></" + name + b">" + end)
    return re.sub(rb"(<Initiated>[^<.]*)Z<", rb"\1.000Z<", body)


def parts_of_oss(body: bytes) -> bytes:
    """Convert the list of an upload's parts; OSS always includes the next-page marker."""
    body, end = without_namespace(body), b"</ListPartsResult>"
    if b"NextPartNumberMarker" not in body:
        body = body.replace(end, b"<NextPartNumberMarker></NextPartNumberMarker>" + end)
    return re.sub(rb"(<LastModified>[^<.]*)(\.\d*)?Z<", rb"\1.000Z<", body)
