"""A store in an S3 bucket, on AWS or any compatible server.

Credentials come only from boto3's chain (environment, profile, role). The client retries transient
failures. Large objects are transferred in parts by boto3's transfer manager: a download is bound to
one version of the object (`If-Match`) and verified (`checksums`) before it is moved into place; an
upload is completed only if the file did not change.
"""

import contextlib
import io
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.manager import TransferConfig, TransferManager

from intent_core.errors import ConfigError, IntentError, StorageError
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
from tasks.storage.s3.checksums import (
    PART,
    etag_of,
    find_check,
    metadata_of,
    verify,
    verify_bytes,
)
from tasks.storage.s3.errors import code_of, num_retries_of, s3_errors, status_of
from tasks.storage.s3.lifecycle import S3Lifecycle
from tasks.storage.transfers import CHUNK, file_errors, synced_meanwhile

MOST_COMPARED = 1000
CONCURRENCY = 4
TRIES = 5
WAIT_S = 0.2
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WRITER = "writer"
_TRANSFER = TransferConfig(
    multipart_threshold=PART,
    multipart_chunksize=PART,
    max_request_concurrency=CONCURRENCY,
    max_in_memory_upload_chunks=CONCURRENCY,
    num_download_attempts=TRIES,
    io_chunksize=CHUNK,
    max_io_queue_size=64,  # chunks in memory
)


class S3Options(NamedTuple):
    """Connection options; an empty string means boto3's default."""

    endpoint_url: str = ""
    region: str = ""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    signature_version: Literal["s3v4", "s3"] = "s3v4"
    connect_timeout_s: float = 10
    read_timeout_s: float = 60


def open_store(uri: str, settings: Settings) -> "S3Store":
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    options = S3Options(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        addressing_style=settings.s3_addressing_style,
        signature_version=settings.s3_signature_version,
    )
    return S3Store(bucket, prefix, options)


class S3Store:
    """Objects below a prefix of a bucket. Threads may share one store.

    Raises `ConfigError` for invalid connection settings.
    """

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        self.bucket = bucket
        self.prefix = check_root("s3", bucket, prefix)
        self._client = _make_client(bucket, options or S3Options())
        self._refuses_twice = False
        self._logged = set[SkippedName]()

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects whose key starts with the prefix, in key order."""
        objects = [
            self._stored(key, entry["Size"], entry, entry["LastModified"].timestamp())
            for key, entry in skip_invalid(self._entries(prefix), self._uri(""), self._logged)
        ]
        # Some servers list folder by folder, with `b/1` before `b-1`.
        yield from sorted(objects, key=lambda stored: stored.key)

    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        return tuple(ScannedObject(o.key, o.size, o.changed or 0.0) for o in self.list(prefix))

    def list_skipped(self, prefix: str) -> tuple[SkippedName, ...]:
        return list_invalid(self._entries(prefix))

    def list_unfinished(self, prefix: str) -> tuple[UnfinishedUpload, ...]:
        with s3_errors("list uploads of", self._uri(prefix)):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            return tuple(
                UnfinishedUpload(
                    upload["Key"].removeprefix(self.prefix), upload["Initiated"].timestamp()
                )
                for page in pages
                for upload in page.get("Uploads", ())
            )

    def local_root(self) -> Path | None:
        return None

    def lifecycle(self) -> Lifecycle | None:
        return S3Lifecycle(self._client, self.bucket, self.prefix)

    def can_be_named(self) -> bool:
        return True

    def stat(self, key: str) -> StoredObject | None:
        at = self._at(key)
        with s3_errors("read", self._uri(key)):
            head = self._head(at)
        return None if head is None else self._stored(key, head["ContentLength"], head)

    def download(self, key: str, target: Path) -> StoredObject:
        at, uri = self._at(key), self._uri(key)
        with s3_errors("download", uri):
            head = self._head(at)
            if head is None:
                raise self._missing(key)
            size = int(head["ContentLength"])
            with (
                file_errors(f"download to {target}", uri, target.parent, size),
                open_atomically(target) as sink,
                synced_meanwhile(sink),
            ):
                check = find_check(self._client, at, head)
                self._fetch(at, head["ETag"], sink)
                if (written := sink.seek(0, os.SEEK_END)) != size:
                    raise StorageError(f"{uri}: incomplete download, {written} of {size} bytes")
                with open(sink.name, "rb") as whole:
                    verify(self._client, at, head, check, whole.fileno())
        return self._stored(key, size, head)

    def upload(self, source: Path, key: str) -> StoredObject:
        at, uri = self._at(key), self._uri(key)
        with file_errors(f"upload {source} to", uri), _Unchanging(source) as stream:
            size = stream.began.st_size
            with s3_errors(f"upload {source} to", uri):
                if size <= PART:
                    self._client.put_object(**at, Body=stream.read())
                else:
                    extra = {"Metadata": metadata_of(stream.fileno())}
                    # The manager aborts the upload if any part fails.
                    with TransferManager(self._client, _TRANSFER) as manager:
                        manager.upload(stream, at["Bucket"], at["Key"], extra).result()
        stored = self.stat(key)
        if stored is None or stored.size != size:
            content = "is missing" if stored is None else f"has {stored.size} bytes"
            raise StorageError(f"{uri} {content} after an upload of {size} bytes")
        return stored

    def read(self, key: str) -> bytes:
        at, fault = self._at(key), None
        with s3_errors("read", self._uri(key)):
            for _ in _tries():
                try:
                    answer = self._client.get_object(**at)
                    with contextlib.closing(answer["Body"]) as body:
                        data: bytes = body.read()
                except ClientError as error:
                    if code_of(error) == "NoSuchKey":
                        raise self._missing(key) from error
                    raise
                except BotoCoreError as error:
                    fault = error
                    continue
                verify_bytes(answer, data, self._uri(key))
                return data
            raise fault or StorageError(f"cannot read {self._uri(key)}")

    def put(self, key: str, data: bytes) -> StoredObject:
        at = self._at(key)
        with s3_errors("write", self._uri(key)):
            return self._stored(key, len(data), self._client.put_object(**at, Body=data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return True if this call wrote the object.

        Raises `ConfigError` if the server does not support conditional writes.
        """
        at, token = self._at(key), uuid.uuid4().hex
        once = {**at, "Body": data, "IfNoneMatch": "*", "Metadata": {_WRITER: token}}
        with s3_errors("write", self._uri(key)):
            for _ in _tries():
                try:
                    self._client.put_object(**once)
                    self._require_once(once)
                    return True
                except ClientError as error:
                    if status_of(error) == 412:
                        return num_retries_of(error) > 0 and self._wrote(at, token)
                    # 409: another write is in progress and may still fail.
                    if status_of(error) != 409:
                        raise
        raise StorageError(f"cannot write {self._uri(key)}: other writes to it are in progress")

    def describe_overwriting(self) -> str:
        return ""  # the first conditional write of each store checks the server

    def delete(self, key: str) -> None:
        at = self._at(key)
        with s3_errors("delete", self._uri(key)):
            try:
                self._client.delete_object(**at)
            except ClientError as error:
                if code_of(error) != "NoSuchKey":
                    raise

    def _entries(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (key, listing entry) of everything that is meant to be an object."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        with s3_errors("list", self._uri(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    if is_object(key := entry["Key"].removeprefix(self.prefix)):
                        yield key, entry

    def _fetch(self, at: dict[str, str], etag: str, sink: BinaryIO) -> None:
        """Write the object with this etag to a file, several ranges at a time."""
        # With the etag, the manager sends `If-Match` from the first range on.
        pin = SimpleNamespace(on_queued=lambda future, **_: future.meta.provide_object_etag(etag))
        fault: BotoCoreError | None = None
        for _ in _tries():
            try:
                with TransferManager(self._client, _TRANSFER) as manager:
                    manager.download(at["Bucket"], at["Key"], sink, subscribers=[pin]).result()
                return sink.flush()
            except BotoCoreError as error:  # the manager has already retried broken streams
                fault = error
        raise fault or StorageError(f"cannot download s3://{at['Bucket']}/{at['Key']}")

    def _require_once(self, once: dict[str, Any]) -> None:
        """Once per store, repeat the write and require that the server refuses it."""
        if self._refuses_twice:
            return
        try:
            self._client.put_object(**once)
        except ClientError as error:
            if status_of(error) not in (409, 412):
                raise
            self._refuses_twice = True
            return
        raise ConfigError(
            f"the server of s3://{self.bucket} ignores If-None-Match and overwrites objects that "
            "must be written once. Use a server or version that supports conditional writes"
        )

    def _wrote(self, at: dict[str, str], token: str) -> bool:
        """Return whether the object is our own first attempt, whose response was lost."""
        head = self._head(at)
        return head is not None and head["Metadata"].get(_WRITER) == token

    def _head(self, at: dict[str, str]) -> dict[str, Any] | None:
        for is_second in (False, True):
            try:
                head: dict[str, Any] = self._client.head_object(**at)
                return head
            except ClientError as error:
                if is_second or status_of(error) >= 500:
                    raise
            # Only the response to a GET contains the reason: key missing, bucket missing, denied.
            try:
                self._client.get_object(**at, Range="bytes=0-0")["Body"].close()
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                if status_of(error) != 416:  # an empty object has no first byte
                    raise
        return None

    def _missing(self, key: str) -> MissingObjectError:
        folders = dict.fromkeys((key.rpartition("/")[0], ""))
        listings = (self._first_keys(f"{folder}/" if folder else "") for folder in folders)
        return MissingObjectError(describe_missing(self._uri(key), key, listings))

    def _first_keys(self, prefix: str) -> tuple[str, ...]:
        try:
            with s3_errors("list", self._uri(prefix)):
                answer = self._client.list_objects_v2(
                    Bucket=self.bucket, Prefix=self.prefix + prefix, MaxKeys=MOST_COMPARED
                )
        except IntentError:
            return ()  # a missing hint is better than hiding the original error
        entries = answer.get("Contents", ())
        return tuple(entry["Key"].removeprefix(self.prefix) for entry in entries)

    def _at(self, key: str) -> dict[str, str]:
        check_key(key)
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def _stored(
        self, key: str, size: int, answer: dict[str, Any], changed: float | None = None
    ) -> StoredObject:
        return StoredObject(
            uri=self._uri(key),
            key=key,
            size=size,
            etag=etag_of(answer),
            version=answer.get("VersionId"),
            changed=changed,
        )


class _Unchanging(io.BufferedReader):
    """A file to upload; reading raises `StorageError` if the file changed since it was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.began = os.fstat(self.fileno())

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        now = os.fstat(self.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.began.st_size, self.began.st_mtime_ns):
            raise StorageError(f"{self.name} changed during the upload")
        return data


def _tries() -> Iterator[int]:
    """Iterate over the attempts, with an exponential back-off between them."""
    for number in range(TRIES):
        if number:
            time.sleep(WAIT_S * 2 ** (number - 1))
        yield number


def _make_client(bucket: str, options: S3Options) -> Any:
    endpoint = urlsplit(options.endpoint_url)
    if options.endpoint_url and (
        endpoint.scheme not in ("http", "https") or not endpoint.hostname or endpoint.username
    ):
        raise ConfigError(
            "INTENT_S3_ENDPOINT_URL must be a URL such as https://host, without user name or "
            "password"
        )
    config = Config(
        signature_version=options.signature_version,
        s3={"addressing_style": options.addressing_style},
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=4 * CONCURRENCY,
        # Servers other than AWS reject trailing checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # An internet proxy cannot reach a server on this machine.
        proxies={} if endpoint.hostname in _LOOPBACK else None,
    )
    with s3_errors("open", f"s3://{bucket}"):
        # Not boto3's default session, which keeps the first credentials it found.
        return boto3.session.Session().client(
            "s3",
            region_name=options.region or None,
            endpoint_url=options.endpoint_url or None,
            config=config,
        )
