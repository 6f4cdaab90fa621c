"""The store drivers that the contract suite tests; add a new driver to `DRIVERS`."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from tasks.storage.directory import DirectoryStore
from tasks.storage.objects import ObjectStore
from tasks.storage.oss.store import OssStore
from tasks.storage.s3.store import S3Options, S3Store
from tests.support.alibaba import oss_emulator
from tests.support.servers.seaweedfs import REGION, Seaweed, running_seaweed


class Driver(NamedTuple):
    """A kind of store with its running server."""

    open: Callable[[str], ObjectStore]
    """Open the store below a prefix, isolated from other prefixes."""

    uri: Callable[[str, str], str]
    """The expected URI of an object, given the store's prefix and the key."""

    environment: dict[str, str]
    """Environment variables that must be set when a store is opened."""

    page: int
    """Maximum number of objects per page of a listing; 0 without pages."""


@contextlib.contextmanager
def directory_driver(folder: Path) -> Iterator[Driver]:
    yield Driver(
        open=lambda prefix: DirectoryStore(folder / prefix),
        uri=lambda prefix, key: (folder / prefix / key).as_uri(),
        environment={},
        page=0,
    )


@contextlib.contextmanager
def s3_driver(folder: Path) -> Iterator[Driver]:
    with running_seaweed() as server:
        yield Driver(
            open=lambda prefix: S3Store(server.bucket, prefix, s3_options(server)),
            uri=lambda prefix, key: f"s3://{server.bucket}/{prefix}/{key}",
            environment=server.full.environment(),
            page=1000,
        )


@contextlib.contextmanager
def oss_driver(folder: Path) -> Iterator[Driver]:
    with running_seaweed() as server, oss_emulator.running_emulator(server) as emulator:
        options = emulator.options()
        yield Driver(
            open=lambda prefix: OssStore(server.bucket, prefix, options),
            uri=lambda prefix, key: f"oss://{server.bucket}/{prefix}/{key}",
            environment=emulator.environment(),
            page=1000,
        )


def s3_options(server: Seaweed) -> S3Options:
    return S3Options(endpoint_url=server.url, region=REGION, addressing_style="path")


# Each driver is started with an empty folder, once per module.
DRIVERS: dict[str, Callable[[Path], AbstractContextManager[Driver]]] = {
    "directory": directory_driver,
    "s3": s3_driver,
    "oss": oss_driver,
}


def failing_sync(code: int) -> Callable[[int], None]:
    """Make an `os.fsync` that fails in the calling thread only.

    Threads left by earlier tests (TensorBoard's writers) sync their own files.
    """
    sync, thread = os.fsync, threading.get_ident()

    def fail(descriptor: int) -> None:
        if threading.get_ident() != thread:
            return sync(descriptor)
        raise OSError(code, os.strerror(code))

    return fail
