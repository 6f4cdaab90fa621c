"""The S3 driver on a test server with chosen keys, and the retry condition of tasks."""

import os
from typing import NoReturn

from tasks.orchestration.retries import worth_a_retry
from tasks.storage.s3.store import S3Options, S3Store
from tests.support.servers.seaweedfs import REGION, Keys, Seaweed


def open_s3(
    server: Seaweed, keys: Keys, url: str = "", bucket: str = "", timeout_s: float = 1
) -> S3Store:
    """Open a store with these credentials, through a proxy if `url` is given."""
    os.environ.update(keys.environment())
    options = S3Options(url or server.url, REGION, "path", "s3v4", timeout_s, timeout_s)
    return S3Store(bucket or server.bucket, "faults", options)


def is_retried(error: BaseException) -> bool:
    """Return whether a task that failed with this error is retried."""
    return worth_a_retry(None, None, _Ended(error))  # type: ignore[arg-type]


class _Ended:
    """The part of a failed task's state that the retry condition uses."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def result(self) -> NoReturn:
        raise self.error
