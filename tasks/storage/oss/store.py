"""A store in a bucket of Alibaba Cloud OSS, by oss2 with V4 signatures: `oss://bucket/prefix`.

oss2 retries nothing, so a request that failed in passing is tried again here. Large objects go in
parts by oss2's resumable transfers, which go on where they broke; a download is bound to the ETag
it began with. Bytes are checked by CRC64, parts one by one, and those sent in one piece by MD5 as
well, so that the service refuses a damaged body before it replaces any.
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
    StoredObject,
    UnfinishedUpload,
    check_key,
    check_root,
    describe_missing,
    is_partial,
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

    Opening raises `ConfigError` when endpoint or region are missing or malformed. Requests raise
    `ConfigError` when a person must act (no or wrong credentials, no permission, no bucket, a
    wrong clock), `MissingObjectError` for an absent key and `StorageError` for what may pass.
    """

    def __init__(self, bucket: str, prefix: str, options: OssOptions) -> None:
        self.prefix = check_root("oss", bucket, prefix)
        self.bucket = open_bucket(bucket, options)
        self._progress_folder = options.progress_folder

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key starts with the prefix, in key order."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        token = ""
        while True:
            page = self._page(prefix, token)
            for entry in page.object_list:
                key = entry.key.removeprefix(self.prefix)
                # A key that ends in a slash is a folder that the console made.
                if not key.endswith("/") and not is_partial(key.rpartition("/")[2]):
                    stored = self._stored(key, entry.size, entry.etag)
                    yield stored.model_copy(update={"changed": float(entry.last_modified)})
            if not page.is_truncated:
                return
            token = page.next_continuation_token

    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        return tuple(ScannedObject(o.key, o.size, o.changed or 0.0) for o in self.list(prefix))

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
        """Write the object beside the target; it moves there once size and CRC64 agree."""
        head = self._head(key)
        if head is None:
            raise self._missing(key)
        stored = self._stored(key, head.content_length, head.etag, head.versionid)
        with (
            file_errors(f"download to {target}", stored.uri, target.parent, stored.size),
            open_atomically(target) as sink,
        ):
            # oss2 would unpack what was stored packed.
            if stored.size > PART and "Content-Encoding" not in head.headers:
                self._fetch_parts(key, head, sink.name)
            else:
                self._fetch(key, sink, stored.etag)
        return stored

    def upload(self, source: Path, key: str) -> StoredObject:
        """Send a file, in parts when it is large; one that changes under way is refused."""
        check_key(key)
        with file_errors(f"upload {source} to", self._uri(key)):
            began = source.stat()

            def require_unchanged() -> None:
                now = source.stat()
                if (now.st_size, now.st_mtime_ns) != (began.st_size, began.st_mtime_ns):
                    raise StorageError(f"{source} changed while it was uploaded to {key!r}")

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
        """Write unless the key exists; of several writers one is told True."""
        check_key(key)
        # Tells our own write from another's when an answer was lost and the next try is refused.
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

    def delete(self, key: str) -> None:
        check_key(key)
        self._ask("delete", key, self.bucket.delete_object)

    def _head(self, key: str) -> Any:
        check_key(key)

        def head(name: str) -> Any:
            try:
                return self.bucket.head_object(name)
            except NotFound as error:
                if not error.code:  # an answer without a body: a GET says what is missing
                    self.bucket.get_object(name, byte_range=(0, 0)).resp.response.close()
                raise

        try:
            return self._ask("read", key, head)
        except MissingObjectError:
            return None

    def _fetch(self, key: str, sink: BinaryIO, etag: str = "") -> None:
        """Fill the file with the object in one piece, of that etag where one is given."""
        headers = {"If-Match": f'"{etag}"'} if etag else None

        def get(name: str) -> tuple[Any, int]:
            answer, crc = self.bucket.get_object(name, headers=headers), Crc64()
            sink.seek(0)
            sink.truncate()
            with contextlib.closing(answer.resp.response) as response:
                # As stored: oss2's own reader would unpack what was stored packed.
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    sink.write(chunk)
                    crc.update(chunk)
            return answer, crc.crc

        answer, crc = self._ask("read", key, get)
        if sink.tell() != answer.content_length:
            size = answer.content_length
            raise StorageError(
                f"{self._uri(key)}: {sink.tell()} bytes arrived of {size}: try again"
            )
        # Objects of a time before OSS kept sums have none.
        if answer.server_crc not in (None, crc):
            raise StorageError(f"{self._uri(key)} arrived damaged: its CRC64 differs: try again")

    def _fetch_parts(self, key: str, head: Any, path: str) -> None:
        """Fill the file with the object that `head` describes, several ranges at once."""
        bucket = copy.copy(self.bucket)
        bucket.head_object = lambda *_, **__: head  # so that every try asks for this etag
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
        # oss2 reports before each part, and before it makes an object of them.
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
                answer.resp.read()  # gives the connection back
                return answer

            try:
                return self._ask("write", key, send, progress)
            except BaseException:
                name = self._name(key)
                path = os.path.abspath(source)
                record = store.get(store.make_store_key(self.bucket.bucket_name, name, path))
                # Parts that stay behind cost money; what failed first matters more than this.
                with contextlib.suppress(IntentError), oss_errors("abort", self._uri(key)):
                    if record:
                        self.bucket.abort_multipart_upload(name, record["upload_id"])
                raise

    @contextlib.contextmanager
    def _progress_in(self) -> Iterator[Path]:
        """A folder for what oss2 notes of one transfer."""
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
            return []  # a hint less, rather than another error than the one to tell
        return [entry.key.removeprefix(self.prefix) for entry in entries]

    def _ask(
        self,
        action: str,
        key: str,
        request: Callable[[str], Any],
        progress: "_TransferProgress | None" = None,
    ) -> Any:
        """One request, tried again after what may pass; with progress, as often as there is any."""
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
    """How many bytes of a transfer are done, as oss2 reports it."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.done, self._check = 0, check

    def __call__(self, done: int, size: int) -> None:
        self.done = max(self.done, done)
        self._check()


class _DownloadProgress(oss2.ResumableDownloadStore):  # type: ignore[misc]
    """Notes of a download that goes into the file itself, since it is our partial file already.

    oss2 would add a suffix, and leave such a file behind when it fails.
    """

    def put(self, key: str, value: dict[str, Any]) -> None:
        value["tmp_suffix"] = ""
        super().put(key, value)


def _md5(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}
