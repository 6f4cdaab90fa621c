"""A store in an S3 bucket: AWS, or any server that speaks its protocol.

Credentials come from boto3's own chain (environment, profile, role), never from here. The client
tries again by itself what a server refuses for the moment; parts, resuming and checksums are in
`transfers`, errors in `errors`, lifecycle rules in `lifecycle`.
"""

import contextlib
import difflib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from intent_core.errors import ConfigError, IntentError, StorageError
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
from tasks.storage.s3.checksums import etag_of, verify_bytes
from tasks.storage.s3.errors import code_of, num_retries_of, s3_errors, status_of
from tasks.storage.s3.lifecycle import S3Lifecycle
from tasks.storage.s3.transfers import CONCURRENCY, fetch, send, tries
from tasks.storage.transfers import (
    file_errors,
    partial_file,
    sync,
    sync_directory,
    synced_meanwhile,
)

MOST_COMPARED = 1000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WRITER = "writer"


class S3Options(NamedTuple):
    """How the server is reached; empty strings leave the choice to boto3."""

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

    Raises `ConfigError` for settings nobody can connect with.
    """

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        self.bucket = bucket
        self.prefix = check_root("s3", bucket, prefix)
        self._client = _make_client(bucket, options or S3Options())
        self._refuses_twice = False

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key starts with the prefix, in key order."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        with s3_errors("list", self._uri(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            objects = [
                self._stored(key, entry["Size"], entry, entry["LastModified"].timestamp())
                for entry in (entry for page in pages for entry in page.get("Contents", ()))
                if _is_object(key := entry["Key"].removeprefix(self.prefix))
            ]
        # Some servers walk folder by folder, and so put `b/1` before `b-1`.
        yield from sorted(objects, key=lambda stored: stored.key)

    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        return tuple(ScannedObject(o.key, o.size, o.changed or 0.0) for o in self.list(prefix))

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
            with file_errors(f"download to {target}", uri, target.parent, size):
                with partial_file(target) as (partial, sink):
                    with synced_meanwhile(sink):
                        fetch(self._client, at, head, sink.fileno())
                    sync(sink)
                    if (written := os.fstat(sink.fileno()).st_size) != size:
                        raise StorageError(f"{uri} came as {written} of {size} bytes")
                    partial.replace(target)
                sync_directory(target.parent)
        return self._stored(key, size, head)

    def upload(self, source: Path, key: str) -> StoredObject:
        at, uri = self._at(key), self._uri(key)
        with file_errors(f"upload {source} to", uri), source.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            with s3_errors(f"upload {source} to", uri):
                send(self._client, at, stream)
        stored = self.stat(key)
        if stored is None or stored.size != size:
            found = "nothing" if stored is None else f"{stored.size} bytes"
            raise StorageError(f"{uri} holds {found} after an upload of {size} bytes")
        return stored

    def read(self, key: str) -> bytes:
        at, fault = self._at(key), None
        with s3_errors("read", self._uri(key)):
            for _ in tries():
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
        """Write unless the key exists; of several writers one is told True.

        Raises `ConfigError` on a server that does not know conditional writes.
        """
        at, token = self._at(key), uuid.uuid4().hex
        once = {**at, "Body": data, "IfNoneMatch": "*", "Metadata": {_WRITER: token}}
        with s3_errors("write", self._uri(key)):
            for _ in tries():
                try:
                    self._client.put_object(**once)
                    self._require_once(once)
                    return True
                except ClientError as error:
                    if status_of(error) == 412:
                        return num_retries_of(error) > 0 and self._wrote(at, token)
                    # 409: another writer is at it, and may yet fail.
                    if status_of(error) != 409:
                        raise
        raise StorageError(f"cannot write {self._uri(key)}: others keep writing it")

    def delete(self, key: str) -> None:
        at = self._at(key)
        with s3_errors("delete", self._uri(key)):
            try:
                self._client.delete_object(**at)
            except ClientError as error:
                if code_of(error) != "NoSuchKey":
                    raise

    def _require_once(self, once: dict[str, Any]) -> None:
        """Ask for the same write again, the first time: a server must refuse it."""
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
            f"the server of s3://{self.bucket} overwrites what must be written once: it ignores "
            "If-None-Match; use a server or a version of it that knows conditional writes"
        )

    def _wrote(self, at: dict[str, str], token: str) -> bool:
        """Whether it is ours after all: the first try arrived, and only its answer was lost."""
        head = self._head(at)
        return head is not None and head["Metadata"].get(_WRITER) == token

    def _head(self, at: dict[str, str]) -> dict[str, Any] | None:
        for asked_before in (False, True):
            try:
                head: dict[str, Any] = self._client.head_object(**at)
                return head
            except ClientError as error:
                if asked_before or status_of(error) >= 500:
                    raise
            # Only the answer to a GET says which of key and bucket is missing, or why not.
            try:
                self._client.get_object(**at, Range="bytes=0-0")["Body"].close()
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                if status_of(error) != 416:  # an empty object has no first byte
                    raise
        return None

    def _missing(self, key: str) -> MissingObjectError:
        nearest: list[str] = []
        for folder in dict.fromkeys((key.rpartition("/")[0], "")):
            keys = self._first_keys(f"{folder}/" if folder else "")
            nearest = nearest or difflib.get_close_matches(key, keys, n=3, cutoff=0.3)
        hint = f"nearest: {', '.join(map(repr, nearest))}" if nearest else "and none of a near name"
        return MissingObjectError(f"no object {self._uri(key)}; {hint}")

    def _first_keys(self, prefix: str) -> tuple[str, ...]:
        try:
            with s3_errors("list", self._uri(prefix)):
                answer = self._client.list_objects_v2(
                    Bucket=self.bucket, Prefix=self.prefix + prefix, MaxKeys=MOST_COMPARED
                )
        except IntentError:
            return ()  # a hint less, rather than another error than the one to tell
        return tuple(e["Key"].removeprefix(self.prefix) for e in answer.get("Contents", ()))

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


def _is_object(key: str) -> bool:
    """Not a folder, which consoles mark by an empty object, and not an unfinished write."""
    return not key.endswith("/") and not is_partial(PurePosixPath(key).name)


def _make_client(bucket: str, options: S3Options) -> Any:
    endpoint = urlsplit(options.endpoint_url)
    if options.endpoint_url and (
        endpoint.scheme not in ("http", "https") or not endpoint.hostname or endpoint.username
    ):
        raise ConfigError(
            "INTENT_S3_ENDPOINT_URL must be as https://host, without name or password"
        )
    config = Config(
        signature_version=options.signature_version,
        s3={"addressing_style": options.addressing_style},
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=4 * CONCURRENCY,
        # Servers other than AWS refuse the checksums that come after the body.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A proxy for the internet would not find a server of this machine.
        proxies={} if endpoint.hostname in _LOOPBACK else None,
    )
    with s3_errors("open", f"s3://{bucket}"):
        # A session of its own: boto3's default one keeps the first credentials it found.
        return boto3.session.Session().client(
            "s3",
            region_name=options.region or None,
            endpoint_url=options.endpoint_url or None,
            config=config,
        )
