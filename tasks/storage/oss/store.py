"""A store in a bucket of Alibaba Cloud OSS (`oss://bucket/prefix`), using oss2 with V4 signatures.

oss2 does not retry, so transient failures are retried here. Large objects use oss2's resumable
multipart transfers; a download is bound to the etag it started with. Each part is checked by
CRC64. Bodies sent in one piece also carry an MD5, so that OSS rejects a damaged body before it
replaces an object.
"""

import base64
import contextlib
import copy
import hashlib
import io
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import oss2
from oss2.exceptions import NotFound
from oss2.utils import Crc64

from intent_core.errors import IntentError, StorageError
from intent_core.files import open_atomically
from tasks.settings import Settings
from tasks.storage.lifecycle import Lifecycle
from tasks.storage.objects import (
    MissingObjectError,
    ScannedObject,
    SkippedName,
    StoredObject,
    UnfinishedUpload,
    check_key,
    check_root,
    describe_missing,
    is_object,
    list_invalid,
    skip_invalid,
)
from tasks.storage.oss.client import OssOptions, code_of, open_bucket, oss_errors, pause
from tasks.storage.oss.lifecycle import OssLifecycle
from tasks.storage.transfers import CHUNK, file_errors

PART = 16 << 20
PARALLEL = 4
PAGE = 1000
WRITER = "x-oss-meta-intent-write"


def open_store(uri: str, settings: Settings) -> "OssStore":
    bucket, _, prefix = uri.removeprefix("oss://").partition("/")
    folder = settings.layout.oss_transfers
    options = OssOptions(settings.oss_endpoint, settings.oss_region, folder)
    return OssStore(bucket, prefix, options)


class OssStore:
    """Objects below a prefix of one bucket.

    Opening raises `ConfigError` if the endpoint or region is missing or malformed. Requests raise
    `ConfigError` if the user must act (missing or wrong credentials, no permission, no bucket,
    wrong clock), `MissingObjectError` for a missing key and `StorageError` for transient failures.
    """

    def __init__(self, bucket: str, prefix: str, options: OssOptions) -> None:
        self.prefix = check_root("oss", bucket, prefix)
        self.bucket = open_bucket(bucket, options)
        self._progress_folder = options.progress_folder
        self._logged = set[SkippedName]()

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects whose key starts with the prefix, in key order."""
        entries = skip_invalid(self._entries(prefix), self._uri(""), self._logged)
        for key, entry in entries:
            stored = self._stored(key, entry.size, entry.etag)
            yield stored.model_copy(update={"changed": float(entry.last_modified)})

    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        return tuple(ScannedObject(o.key, o.size, o.changed or 0.0) for o in self.list(prefix))

    def list_skipped(self, prefix: str) -> tuple[SkippedName, ...]:
        return list_invalid(self._entries(prefix))

    def list_unfinished(self, prefix: str) -> tuple[UnfinishedUpload, ...]:
        with oss_errors("list uploads of", self._uri(prefix)):
            return tuple(
                UnfinishedUpload(
                    upload.key.removeprefix(self.prefix), float(upload.initiation_date)
                )
                for upload in oss2.MultipartUploadIterator(self.bucket, prefix=self.prefix + prefix)
            )

    def local_root(self) -> Path | None:
        return None

    def lifecycle(self) -> Lifecycle | None:
        return OssLifecycle(self.bucket, self.prefix)

    def can_be_named(self) -> bool:
        return True

    def stat(self, key: str) -> StoredObject | None:
        head = self._head(key)
        if head is None:
            return None
        return self._stored(key, head.content_length, head.etag, head.versionid)

    def download(self, key: str, target: Path) -> StoredObject:
        """Download to a partial file and rename it to the target if size and CRC64 match."""
        head = self._head(key)
        if head is None:
            raise self._missing(key)
        stored = self._stored(key, head.content_length, head.etag, head.versionid)
        with (
            file_errors(f"download to {target}", stored.uri, target.parent, stored.size),
            open_atomically(target) as sink,
        ):
            # oss2 would decompress an object that was stored compressed.
            if stored.size > PART and "Content-Encoding" not in head.headers:
                self._fetch_parts(key, head, sink.name)
            else:
                self._fetch(key, sink, stored.etag)
        return stored

    def upload(self, source: Path, key: str) -> StoredObject:
        """Upload a file, in parts if it is large. Raises `StorageError` if the file changes."""
        check_key(key)
        with file_errors(f"upload {source} to", self._uri(key)):
            began = source.stat()

            def require_unchanged() -> None:
                now = source.stat()
                if (now.st_size, now.st_mtime_ns) != (began.st_size, began.st_mtime_ns):
                    raise StorageError(f"{source} changed during the upload to {key!r}")

            if began.st_size > PART:
                result = self._send_parts(key, source, require_unchanged)
                return self._stored(key, began.st_size, result.etag, result.versionid)
            data = source.read_bytes()
            require_unchanged()
            return self.put(key, data)

    def read(self, key: str) -> bytes:
        check_key(key)
        sink = io.BytesIO()
        try:
            self._fetch(key, sink)
        except MissingObjectError as error:
            raise self._missing(key) from error
        return sink.getvalue()

    def put(self, key: str, data: bytes) -> StoredObject:
        check_key(key)
        result = self._ask(
            "write", key, lambda name: self.bucket.put_object(name, data, _md5(data))
        )
        return self._stored(key, len(data), result.etag, result.versionid)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return True if this call wrote the object."""
        check_key(key)
        # Identifies our own write if the response was lost and the retry is refused.
        writer = uuid.uuid4().hex
        headers = {"x-oss-forbid-overwrite": "true", WRITER: writer, **_md5(data)}
        try:
            self._ask("write", key, lambda name: self.bucket.put_object(name, data, headers))
        except StorageError as error:
            if code_of(error) != "FileAlreadyExists":
                raise
            head = self._head(key)
            return head is not None and head.headers.get(WRITER) == writer
        return True

    def describe_overwriting(self) -> str:
        with oss_errors("read the versioning of", f"oss://{self.bucket.bucket_name}"):
            status = self.bucket.get_bucket_versioning().status
        if status not in ("Enabled", "Suspended"):
            return ""
        return f"versioning is {status.lower()}, so OSS ignores x-oss-forbid-overwrite"

    def delete(self, key: str) -> None:
        check_key(key)
        self._ask("delete", key, self.bucket.delete_object)

    def _entries(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Yield (key, listing entry) of everything that is meant to be an object."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        token = ""
        while True:
            page = self._page(prefix, token)
            for entry in page.object_list:
                if is_object(key := entry.key.removeprefix(self.prefix)):
                    yield key, entry
            if not page.is_truncated:
                return
            token = page.next_continuation_token

    def _head(self, key: str) -> Any:
        check_key(key)

        def head(name: str) -> Any:
            try:
                return self.bucket.head_object(name)
            except NotFound as error:
                # The response to HEAD has no body; a GET reports what is missing.
                if not error.code:
                    self.bucket.get_object(name, byte_range=(0, 0)).resp.response.close()
                raise

        try:
            return self._ask("read", key, head)
        except MissingObjectError:
            return None

    def _fetch(self, key: str, sink: BinaryIO, etag: str = "") -> None:
        """Write the object to the file in one request; `etag`, if given, must match."""
        headers = {"If-Match": f'"{etag}"'} if etag else None

        def get(name: str) -> tuple[Any, int]:
            answer, crc = self.bucket.get_object(name, headers=headers), Crc64()
            sink.seek(0)
            sink.truncate()
            with contextlib.closing(answer.resp.response) as response:
                # oss2's reader would decompress an object that was stored compressed.
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    sink.write(chunk)
                    crc.update(chunk)
            return answer, crc.crc

        answer, crc = self._ask("read", key, get)
        received, size = sink.tell(), answer.content_length
        if received != size:
            raise StorageError(
                f"{self._uri(key)}: incomplete download, {received} of {size} bytes. Try again"
            )
        # Objects older than OSS's checksums do not have a CRC64.
        if answer.server_crc not in (None, crc):
            raise StorageError(f"{self._uri(key)}: CRC64 mismatch after download. Try again")

    def _fetch_parts(self, key: str, head: Any, path: str) -> None:
        """Write the object that `head` describes to the file, several ranges at a time."""
        bucket = copy.copy(self.bucket)
        bucket.head_object = lambda *_, **__: head  # so that every attempt uses this etag
        progress = _TransferProgress()
        with self._progress_in() as folder:
            store = _DownloadProgress(folder.parent, folder.name)

            def get(name: str) -> None:
                oss2.resumable_download(
                    bucket,
                    name,
                    path,
                    multiget_threshold=0,
                    part_size=PART,
                    num_threads=PARALLEL,
                    progress_callback=progress,
                    store=store,
                )

            self._ask("read", key, get, progress)

    def _send_parts(self, key: str, source: Path, require_unchanged: Callable[[], None]) -> Any:
        # oss2 calls it before each part and before it completes the upload.
        progress = _TransferProgress(require_unchanged)
        with self._progress_in() as folder:
            store = oss2.ResumableStore(folder.parent, folder.name)

            def send(name: str) -> Any:
                require_unchanged()
                answer = oss2.resumable_upload(
                    self.bucket,
                    name,
                    str(source),
                    multipart_threshold=0,
                    part_size=PART,
                    num_threads=PARALLEL,
                    progress_callback=progress,
                    store=store,
                )
                answer.resp.read()  # returns the connection to the pool
                return answer

            try:
                return self._ask("write", key, send, progress)
            except BaseException:
                name = self._name(key)
                path = os.path.abspath(source)
                record = store.get(store.make_store_key(self.bucket.bucket_name, name, path))
                # Leftover parts cost money. A failed abort must not hide the first error.
                with contextlib.suppress(IntentError), oss_errors("abort", self._uri(key)):
                    if record:
                        self.bucket.abort_multipart_upload(name, record["upload_id"])
                raise

    @contextlib.contextmanager
    def _progress_in(self) -> Iterator[Path]:
        """Create a temporary folder for oss2's state of one transfer."""
        self._progress_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._progress_folder) as folder:
            yield Path(folder)

    def _page(self, prefix: str, token: str) -> Any:
        pages = self.bucket.list_objects_v2
        return self._ask("list", prefix, lambda name: pages(name, "", token, max_keys=PAGE))

    def _missing(self, key: str) -> MissingObjectError:
        folders = dict.fromkeys((key.rpartition("/")[0], ""))
        listings = (self._first_keys(folder) for folder in folders)
        return MissingObjectError(describe_missing(self._uri(key), key, listings))

    def _first_keys(self, prefix: str) -> Sequence[str]:
        try:
            entries = self._page(prefix, "").object_list
        except IntentError:
            return []  # a missing hint is better than hiding the original error
        return [entry.key.removeprefix(self.prefix) for entry in entries]

    def _ask(
        self,
        action: str,
        key: str,
        request: Callable[[str], Any],
        progress: "_TransferProgress | None" = None,
    ) -> Any:
        """Send a request and retry transient failures; progress resets the number of retries."""
        failures = done = 0
        while True:
            try:
                with oss_errors(action, self._uri(key)):
                    return request(self._name(key))
            except StorageError as error:
                failures += 1
                if progress and progress.done > done:
                    failures, done = 1, progress.done
                pause(failures, error)

    def _name(self, key: str) -> str:
        return f"{self.prefix}{key}"

    def _uri(self, key: str) -> str:
        return f"oss://{self.bucket.bucket_name}/{self.prefix}{key}"

    def _stored(self, key: str, size: int, etag: str, version: str | None = None) -> StoredObject:
        return StoredObject(uri=self._uri(key), key=key, size=size, etag=etag, version=version)


class _TransferProgress:
    """The number of bytes transferred, as oss2 reports it."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.done, self._check = 0, check

    def __call__(self, done: int, size: int) -> None:
        self.done = max(self.done, done)
        self._check()


class _DownloadProgress(oss2.ResumableDownloadStore):  # type: ignore[misc]
    """State of a download that oss2 writes directly to our partial file.

    By default oss2 adds a suffix and leaves that file behind if the download fails.
    """

    def put(self, key: str, value: dict[str, Any]) -> None:
        value["tmp_suffix"] = ""
        super().put(key, value)


def _md5(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}
