"""Our S3 driver on a test server, as somebody, and the retry condition asked directly."""

import os
from typing import NoReturn

from tasks.orchestration.retries import worth_a_retry
from tasks.storage.s3.store import S3Options, S3Store
from tests.support.servers.seaweedfs import REGION, Keys, Seaweed


def open_s3(
    server: Seaweed, keys: Keys, url: str = "", bucket: str = "", timeout_s: float = 1
) -> S3Store:
    """A store with that one's credentials in the environment, by way of a proxy's url if given."""
    os.environ.update(keys.environment())
    options = S3Options(url or server.url, REGION, "path", "s3v4", timeout_s, timeout_s)
    return S3Store(bucket or server.bucket, "faults", options)


def is_retried(error: BaseException) -> bool:
    """Whether a task that failed with it is run again."""
    return worth_a_retry(None, None, _Ended(error))  # type: ignore[arg-type]


class _Ended:
    """A failed task's state, as far as the retry condition asks."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def result(self) -> NoReturn:
        raise self.error
