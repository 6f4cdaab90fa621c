"""A store in a bucket of Alibaba Cloud OSS, by oss2 with V4 signatures: `oss://bucket/prefix`.

oss2 retries nothing, so a request that failed in passing is tried again here; a broken download
goes on where it broke, bound to the ETag it began with. Bytes are checked by size and CRC64, and
on the way in by MD5 as well, so that the service refuses a damaged body before it replaces any.
"""

import base64
import contextlib
import difflib
import hashlib
import io
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from oss2 import MultipartUploadIterator
from oss2.exceptions import NotFound
from oss2.models import PartInfo
from oss2.utils import Crc64, calc_obj_crc_from_parts

from intent_core.errors import IntentError, StorageError
from tasks.settings import Settings
from tasks.storage.lifecycle import Lifecycle
from tasks.storage.objects import (
    MissingObjectError,
    ScannedObject,
    StoredObject,
    UnfinishedUpload,
    check_key,
    check_root,
    is_partial,
)
from tasks.storage.oss.client import OssOptions, code_of, open_bucket, oss_errors, pause
from tasks.storage.oss.lifecycle import OssLifecycle
from tasks.storage.transfers import CHUNK, file_errors, partial_file, sync, sync_directory

PART = 16 << 20
MOST_PARTS = 10_000
PARALLEL = 4
PAGE = 1000
WRITER = "x-oss-meta-intent-write"


def open_store(uri: str, settings: Settings) -> "OssStore":
    bucket, _, prefix = uri.removeprefix("oss://").partition("/")
    return OssStore(bucket, prefix, OssOptions(settings.oss_endpoint, settings.oss_region))


class OssStore:
    """Objects below a prefix of one bucket.

    Opening raises `ConfigError` when endpoint or region are missing or malformed. Requests raise
    `ConfigError` when a person must act (no or wrong credentials, no permission, no bucket, a
    wrong clock), `MissingObjectError` for an absent key and `StorageError` for what may pass.
    """

    def __init__(self, bucket: str, prefix: str, options: OssOptions) -> None:
        self.prefix = check_root("oss", bucket, prefix)
        self.bucket = open_bucket(bucket, options)

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
                for upload in MultipartUploadIterator(self.bucket, prefix=self.prefix + prefix)
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
        found = self.stat(key)
        if found is None:
            raise self._missing(key)
        with (
            file_errors(f"download to {target}", found.uri, target.parent, found.size),
            partial_file(target) as (partial, sink),
        ):
            self._fetch(key, sink, found.etag)
            sync(sink)
            partial.replace(target)
            sync_directory(target.parent)
        return found

    def upload(self, source: Path, key: str) -> StoredObject:
        """Send a file, in parts when it is large; one that changes under way is refused."""
        check_key(key)
        with file_errors(f"upload {source} to", self._uri(key)):
            began = source.stat()

            def read(offset: int, size: int) -> bytes:
                with source.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read(size)
                now = source.stat()
                if (now.st_size, now.st_mtime_ns) != (began.st_size, began.st_mtime_ns):
                    raise StorageError(f"{source} changed while it was uploaded to {key!r}")
                return data

            return self._write(key, began.st_size, read)

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
        return self._write(key, len(data), lambda offset, size: data[offset : offset + size])

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
        """Fill the empty sink; what broke goes on where it broke, if it is still that object."""
        download, failures = _Download(sink, etag), 0
        while not download.is_complete:
            start = download.offset
            try:
                with oss_errors("read", self._uri(key)):
                    download.receive(self.bucket, self._name(key))
                break
            except StorageError as error:
                failures = 1 if download.offset - start >= CHUNK else failures + 1
                pause(failures, error)
        download.check(self._uri(key))

    def _write(self, key: str, size: int, read: Callable[[int, int], bytes]) -> StoredObject:
        if size > PART:
            result = self._write_parts(key, size, read)
        else:
            data = read(0, size)
            result = self._ask(
                "write", key, lambda name: self.bucket.put_object(name, data, _md5(data))
            )
        return self._stored(key, size, result.etag, result.versionid)

    def _write_parts(self, key: str, size: int, read: Callable[[int, int], bytes]) -> Any:
        step = max(PART, -(-size // MOST_PARTS))
        upload = self._ask("write", key, self.bucket.init_multipart_upload).upload_id

        def send(start: int) -> PartInfo:
            number, data = start // step + 1, read(start, min(step, size - start))
            sent = self._ask(
                "write",
                key,
                lambda name: self.bucket.upload_part(name, upload, number, data, None, _md5(data)),
            )
            return PartInfo(number, sent.etag, size=len(data), part_crc=sent.crc)

        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                parts = [*pool.map(send, range(0, size, step))]
            return self._complete(key, upload, parts)
        except BaseException:
            # Parts that stay behind cost money; what failed first matters more than this.
            with contextlib.suppress(IntentError), oss_errors("abort", self._uri(key)):
                self.bucket.abort_multipart_upload(self._name(key), upload)
            raise

    def _complete(self, key: str, upload: str, parts: Sequence[PartInfo]) -> Any:
        try:
            complete = self.bucket.complete_multipart_upload
            return self._ask("write", key, lambda name: complete(name, upload, parts))
        except StorageError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            # An answer was lost and the next try came too late: is it ours that is there?
            head, size = self._head(key), sum(part.size for part in parts)
            ours = size, calc_obj_crc_from_parts(parts)
            if head is None or (head.content_length, head.server_crc) != ours:
                raise
            return head

    def _page(self, prefix: str, token: str) -> Any:
        pages = self.bucket.list_objects_v2
        return self._ask("list", prefix, lambda name: pages(name, "", token, max_keys=PAGE))

    def _missing(self, key: str) -> MissingObjectError:
        nearest: Sequence[str] = []
        for folder in dict.fromkeys((key.rpartition("/")[0], "")):
            keys = self._first_keys(folder)
            nearest = nearest or difflib.get_close_matches(key, keys, n=3, cutoff=0.3)
        hint = f"nearest: {', '.join(map(repr, nearest))}" if nearest else "and none of a near name"
        return MissingObjectError(f"no object {self._uri(key)}; {hint}")

    def _first_keys(self, prefix: str) -> Sequence[str]:
        try:
            entries = self._page(prefix, "").object_list
        except IntentError:
            return []  # a hint less, rather than another error than the one to tell
        return [entry.key.removeprefix(self.prefix) for entry in entries]

    def _ask(self, action: str, key: str, request: Callable[[str], Any]) -> Any:
        """One request, tried again after what may pass."""
        failures = 0
        while True:
            try:
                with oss_errors(action, self._uri(key)):
                    return request(self._name(key))
            except StorageError as error:
                failures += 1
                pause(failures, error)

    def _name(self, key: str) -> str:
        return f"{self.prefix}{key}"

    def _uri(self, key: str) -> str:
        return f"oss://{self.bucket.bucket_name}/{self.prefix}{key}"

    def _stored(self, key: str, size: int, etag: str, version: str | None = None) -> StoredObject:
        return StoredObject(uri=self._uri(key), key=key, size=size, etag=etag, version=version)


class _Download:
    """Bytes received so far of the one object that the first answer was about."""

    def __init__(self, sink: BinaryIO, etag: str) -> None:
        self.sink, self.etag, self.crc = sink, etag, Crc64()
        self.offset = 0
        self.size: int | None = None
        self.server_crc: int | None = None

    @property
    def is_complete(self) -> bool:
        return self.size is not None and self.offset >= self.size

    def receive(self, bucket: Any, name: str) -> None:
        begun = self.offset > 0
        answer = bucket.get_object(
            name,
            byte_range=(self.offset, None) if begun else None,
            headers={"If-Match": f'"{self.etag}"'} if self.etag else None,
        )
        with contextlib.closing(answer.resp.response) as response:
            if begun and answer.status != 206:
                raise StorageError(f"{name!r} could not be read on from byte {self.offset}")
            if not begun:
                self.etag, self.size = answer.etag, answer.content_length
                self.server_crc = answer.server_crc
            # As stored: oss2's own reader would unpack what was stored packed.
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                self.sink.write(chunk)
                self.crc.update(chunk)
                self.offset += len(chunk)

    def check(self, uri: str) -> None:
        if self.offset != self.size:
            raise StorageError(f"{uri}: {self.offset} bytes arrived of {self.size}: try again")
        # Objects of a time before OSS kept sums have none.
        if self.server_crc not in (None, self.crc.crc):
            raise StorageError(f"{uri} arrived damaged: its CRC64 differs: try again")


def _md5(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}
