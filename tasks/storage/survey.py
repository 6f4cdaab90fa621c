"""What lies in a store, for those who tidy it: sizes and ages, and writes that never ended.

A listing does not show unfinished writes (parts of uploads, partial files); they take room all the
same, until somebody aborts them.
"""

import os
from collections.abc import Iterator
from functools import singledispatch
from pathlib import Path
from typing import NamedTuple

import oss2

from tasks.storage.directory import DirectoryStore
from tasks.storage.objects import ObjectStore, is_partial
from tasks.storage.oss.client import oss_errors
from tasks.storage.oss.store import OssStore
from tasks.storage.s3.errors import s3_errors
from tasks.storage.s3.store import S3Store
from tasks.storage.transfers import file_errors


class Unfinished(NamedTuple):
    """One write that was begun."""

    key: str
    upload: str
    """The store's name of it."""
    begun: float
    """Epoch seconds, by the store's clock."""


class Seen(NamedTuple):
    """One object, without a look at its content."""

    key: str
    size: int
    changed: float
    """Epoch seconds, by the store's clock."""


def survey(store: ObjectStore, prefix: str) -> list[Seen]:
    """Objects whose key starts with the prefix, in key order; of a directory none is read."""
    if isinstance(store, DirectoryStore):
        with file_errors("list", (store.root / prefix).as_uri()):
            return sorted(_walk(store.root, prefix))
    return [Seen(one.key, one.size, one.changed or 0.0) for one in store.list(prefix)]


@singledispatch
def list_unfinished(store: ObjectStore, prefix: str) -> list[Unfinished]:
    """Those of keys that start with the prefix. Raises as the store's own listing."""
    raise TypeError(f"no such store: {type(store).__name__}")


@singledispatch
def abort(store: ObjectStore, one: Unfinished) -> None:
    """Its parts are freed; nothing that was stored changes."""
    raise TypeError(f"no such store: {type(store).__name__}")


@list_unfinished.register
def _(store: S3Store, prefix: str) -> list[Unfinished]:
    with s3_errors("list uploads of", f"s3://{store.bucket}/{store.prefix}{prefix}"):
        pages = store.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=store.bucket, Prefix=store.prefix + prefix
        )
        return [
            Unfinished(
                one["Key"].removeprefix(store.prefix),
                one["UploadId"],
                one["Initiated"].timestamp(),
            )
            for page in pages
            for one in page.get("Uploads", ())
        ]


@abort.register
def _(store: S3Store, one: Unfinished) -> None:
    key = store.prefix + one.key
    with s3_errors("abort the upload of", f"s3://{store.bucket}/{key}"):
        store.client.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=one.upload)


@list_unfinished.register
def _(store: OssStore, prefix: str) -> list[Unfinished]:
    with oss_errors("list uploads of", f"oss://{store.bucket.bucket_name}/{store.prefix}{prefix}"):
        return [
            Unfinished(
                one.key.removeprefix(store.prefix), one.upload_id, float(one.initiation_date)
            )
            for one in oss2.MultipartUploadIterator(store.bucket, prefix=store.prefix + prefix)
        ]


@abort.register
def _(store: OssStore, one: Unfinished) -> None:
    key = store.prefix + one.key
    with oss_errors("abort the upload of", f"oss://{store.bucket.bucket_name}/{key}"):
        store.bucket.abort_multipart_upload(key, one.upload)


@list_unfinished.register
def _(store: DirectoryStore, prefix: str) -> list[Unfinished]:
    with file_errors("list", (store.root / prefix).as_uri()):
        return list(_find_partial(store.root, prefix))


@abort.register
def _(store: DirectoryStore, one: Unfinished) -> None:
    with file_errors("remove", (store.root / one.key).as_uri()):
        (store.root / one.key).unlink(missing_ok=True)


def _find_partial(root: Path, prefix: str) -> Iterator[Unfinished]:
    for path, key in _files(root, prefix):
        if is_partial(path.name):
            try:
                yield Unfinished(key, path.name, path.stat().st_mtime)
            except FileNotFoundError:
                continue  # it has just become whole


def _walk(root: Path, prefix: str) -> Iterator[Seen]:
    for path, key in _files(root, prefix):
        if not is_partial(path.name):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            yield Seen(key, found.st_size, found.st_mtime)


def _files(root: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    for folder, _, names in os.walk(root / prefix.rpartition("/")[0]):
        for name in names:
            path = Path(folder, name)
            key = path.relative_to(root).as_posix()
            if key.startswith(prefix):
                yield path, key
