"""An emulator of the part of Alibaba Cloud OSS that oss2 and our driver use, on a real S3 server.

    with running_seaweed() as server, running_emulator(server) as emulator:
        os.environ.update(emulator.environment())
        OssStore(server.bucket, "", emulator.options())

Signatures are checked by the published rules (`oss_signatures`), not by oss2's code. It follows the
documentation and was not compared with the live service.
"""

import base64
import contextlib
import hashlib
import itertools
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode
from xml.etree import ElementTree

import crcmod
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tasks.storage.oss.client import OssOptions
from tests.support.alibaba.oss_signatures import Refused, check_signature
from tests.support.alibaba.oss_to_s3 import (
    Listed,
    answered_by_oss,
    asked_of_s3,
    error_of_oss,
    listed_by_s3,
    listing_of_oss,
    parts_of_oss,
    parts_of_s3,
    uploads_of_oss,
    without_namespace,
)
from tests.support.servers import seaweedfs

REGION = "cn-hangzhou"
FULL_KEY, READER_KEY, SECRET, READER_SECRET = (
    "LTAI5tFullAccess",
    "LTAI5tReaderOnly",
    "oss-secret-Wq7hT2xK",
    "oss-secret-Zb4nR9pD",
)
crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF)
# Error codes of S3 that have other names in OSS.
_CODES = {"BadDigest": "InvalidDigest", "NotFound": "NoSuchKey"}


class Asked(NamedTuple):
    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Fault:
    """A fault in the next `times` requests with this method (and query parameter `having`)."""

    method: str
    kind: str
    """refuse, drop (before the work), lose (the answer), truncate, corrupt, or bare (no body)."""
    times: int = 1
    having: str = ""
    status: int = 503
    code: str = "ServiceUnavailable"


@dataclass
class OssEmulator:
    """The state of the emulator, which tests read and change."""

    backend: seaweedfs.Seaweed
    folder: Path
    """Folder in which stores save the progress of transfers."""
    url: str = ""
    secrets: dict[str, str] = field(
        default_factory=lambda: {FULL_KEY: SECRET, READER_KEY: READER_SECRET}
    )
    token: str = ""
    """The session token that every request must have; empty for none."""
    clock_offset_s: float = 0
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    lifecycle: bytes = b""
    """The bucket's lifecycle configuration; empty for none."""
    versioning: str = ""
    """Enabled or Suspended; empty if it was never enabled. `x-oss-forbid-overwrite` then has no
    effect, as documented."""
    before: Callable[[Asked], None] = lambda asked: None
    """Called before a request is forwarded, e.g. to simulate a concurrent change."""
    sums: dict[tuple[str, str, str], int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    session: requests.Session = field(default_factory=requests.Session)

    def options(self, region: str = REGION) -> OssOptions:
        return OssOptions(self.url, region, self.folder)

    def environment(self, key: str = FULL_KEY) -> dict[str, str]:
        return {
            "OSS_ACCESS_KEY_ID": key,
            "OSS_ACCESS_KEY_SECRET": self.secrets.get(key, SECRET),
            "OSS_SESSION_TOKEN": self.token,
        }

    def take_fault(self, method: str, query: dict[str, str]) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if (
                    fault.method == method
                    and fault.times
                    and (fault.having in query or not fault.having)
                ):
                    fault.times -= 1
                    return fault
        return None

    def forward(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> requests.Response:
        """Send the request to the S3 server with its signature."""
        url = (
            self.backend.url
            + quote(path)
            + ("?" + urlencode(query, quote_via=quote) if query else "")
        )
        request = AWSRequest(method, url, data=body, headers=headers)
        keys = self.backend.full
        S3SigV4Auth(Credentials(keys.access_key, keys.secret_key), "s3", seaweedfs.REGION).add_auth(
            request
        )
        ready = requests.Request(method, url, data=body, headers=dict(request.headers.items()))
        return self.session.send(self.session.prepare_request(ready), timeout=30)

    def sum_of(self, bucket: str, key: str, etag: str) -> int:
        """Return the CRC64 of the whole object; OSS sends it for ranges as well."""
        known = self.sums.get((bucket, key, etag))
        if known is None:
            known = crc64(self.forward("GET", f"/{bucket}/{key}", {}, {}, b"").content)
            self.sums[bucket, key, etag] = known
        return known


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    emulator: OssEmulator

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one(self) -> None:
        raw_path, _, raw_query = self.path.partition("?")
        path = unquote(raw_path)
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        bucket, _, key = path.removeprefix("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, key, query, headers)
        self.emulator.asked.append(asked)
        fault = self.emulator.take_fault(self.command, query)
        if fault and fault.kind == "drop":
            self.close_connection = True
            return
        try:
            if fault and fault.kind == "refuse":
                raise Refused(fault.status, fault.code, "Injected fault.")
            self._check(asked, bucket, body)
            self.emulator.before(asked)
            answer = self._work(asked, bucket, body)
        except Refused as refused:
            headers, body = error_of_oss(refused)
            answer = Answer(refused.status, {**headers, "Content-Length": str(len(body))}, body)
        self._send(answer, fault.kind if fault else "")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def _check(self, asked: Asked, bucket: str, body: bytes) -> None:
        emulator = self.emulator
        now = time.time() + emulator.clock_offset_s
        key_id = check_signature(asked, bucket, emulator.secrets, REGION, now)
        if emulator.token and asked.headers.get("x-oss-security-token") != emulator.token:
            raise Refused(403, "InvalidSecurityToken", "The security token is invalid.")
        if key_id == READER_KEY and asked.method not in ("GET", "HEAD"):
            raise Refused(403, "AccessDenied", "You have no right to access this object.")
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        if asked.headers.get("content-md5", digest) != digest:
            raise Refused(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")

    def _work(self, asked: Asked, bucket: str, body: bytes) -> Answer:
        query = {name: value for name, value in asked.query.items() if value or name == "uploads"}
        if "lifecycle" in asked.query:
            return self._lifecycle(asked, body)
        if "versioning" in asked.query:
            status = f"<Status>{self.emulator.versioning}</Status>"
            content = f"<VersioningConfiguration>{status if self.emulator.versioning else ''}"
            content += "</VersioningConfiguration>"
            return Answer(200, {"Content-Length": str(len(content))}, content.encode())
        if self.emulator.versioning:
            asked.headers.pop("x-oss-forbid-overwrite", None)
        if query.get("list-type") == "2":
            return self._list(bucket, query)
        sent = parts_of_s3(body) if asked.method == "POST" else body
        reply = self.emulator.forward(
            asked.method, f"/{bucket}/{asked.key}", query, asked_of_s3(asked.headers), sent
        )
        if reply.status_code >= 400:
            raise self._translated(reply, bucket, asked)
        headers = answered_by_oss(reply.headers)
        etag = reply.headers.get("ETag", "")
        content = reply.content
        if asked.method == "POST":
            content = without_namespace(content)
            etag = self._etag_of(bucket, asked.key) if "uploadId" in query else ""
        elif "uploads" in query:
            content = uploads_of_oss(content)
        elif asked.method == "GET" and "uploadId" in query:
            content = parts_of_oss(content)
        if etag:
            headers["ETag"] = etag.upper()
            total = (
                crc64(body)
                if asked.method == "PUT"
                else self.emulator.sum_of(bucket, asked.key, etag)
            )
            headers["x-oss-hash-crc64ecma"] = str(total)
        if asked.method != "HEAD":
            headers["Content-Length"] = str(len(content))
        return Answer(reply.status_code, headers, content)

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        objects, asking = list[Listed](), {"list-type": "2", "prefix": query.get("prefix", "")}
        while True:
            reply = self.emulator.forward("GET", f"/{bucket}", asking, {}, b"")
            if not reply.ok:
                raise self._translated(reply, bucket, Asked("GET", "", query, {}))
            page, token = listed_by_s3(reply.content)
            objects += page
            if not token:
                break
            asking["continuation-token"] = token
        start = query.get("continuation-token", "")
        body = listing_of_oss(objects, start, int(query.get("max-keys", "100")))
        return Answer(200, {"Content-Length": str(len(body))}, body)

    def _lifecycle(self, asked: Asked, body: bytes) -> Answer:
        """Read or replace the bucket's rules; two rules with one action must not overlap."""
        if asked.method == "PUT":
            rules = ElementTree.fromstring(body).findall("Rule")
            ids = [rule.findtext("ID", "") for rule in rules]
            prefixes = [
                rule.findtext("Prefix") or ""
                for rule in rules
                if rule.find("AbortMultipartUpload") is not None
            ]
            overlaps = any(a.startswith(b) for a, b in itertools.permutations(prefixes, 2))
            may_overlap = asked.headers.get("x-oss-allow-same-action-overlap") == "true"
            if len(set(ids)) < len(ids) or (overlaps and not may_overlap):
                raise Refused(400, "InvalidArgument", "Overlap for same action type.")
            self.emulator.lifecycle = body
            return Answer(200, {"Content-Length": "0"}, b"")
        if not self.emulator.lifecycle:
            raise Refused(404, "NoSuchLifecycle", "No lifecycle rule was set.")
        size = str(len(self.emulator.lifecycle))
        return Answer(200, {"Content-Length": size}, self.emulator.lifecycle)

    def _etag_of(self, bucket: str, key: str) -> str:
        return self.emulator.forward("HEAD", f"/{bucket}/{key}", {}, {}, b"").headers["ETag"]

    def _translated(self, reply: requests.Response, bucket: str, asked: Asked) -> Refused:
        code = message = ""
        if reply.content:
            root = ElementTree.fromstring(without_namespace(reply.content))
            code, message = root.findtext("Code", ""), root.findtext("Message", "")
        elif reply.status_code == 404:
            found = self.emulator.forward("HEAD", f"/{bucket}", {}, {}, b"").ok
            code, message = "NoSuchKey" if found else "NoSuchBucket", "It does not exist."
        if reply.status_code == 412 and "x-oss-forbid-overwrite" in asked.headers:
            return Refused(409, "FileAlreadyExists", "The object you specified already exists.")
        return Refused(reply.status_code, _CODES.get(code, code), message)

    def _send(self, answer: Answer, fault: str) -> None:
        status, headers, body = answer
        if fault == "lose":
            self.close_connection = True
            return
        if fault == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "bare":
            headers, body = {"Content-Length": "0"}, b""
        self.send_response(status)
        for name, value in {**headers, "x-oss-request-id": uuid.uuid4().hex}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault == "truncate":
            body, self.close_connection = body[: len(body) // 2], True
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def running_emulator(backend: seaweedfs.Seaweed) -> Iterator[OssEmulator]:
    """Run the emulator on a free loopback port."""
    folder = tempfile.TemporaryDirectory(prefix="oss-")
    emulator = OssEmulator(backend, Path(folder.name))
    emulator.session.trust_env = False
    handler: type[Any] = type("Bound", (Handler,), {"emulator": emulator})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    emulator.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield emulator
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        emulator.session.close()
        folder.cleanup()
