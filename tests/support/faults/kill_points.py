"""Processes that are killed right before one of their external effects."""

import multiprocessing
import os
import signal
import sys
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class KillPoint(NamedTuple):
    """A point of a promotion at which to kill it; see `die_before`."""

    event: str
    target: str
    count: int
    is_promoted: bool
    """Whether `serving.json` already has the new model at that point."""


ADAPTER_PROMOTION = (
    KillPoint("os.rename", "/aliases/*.json", 1, False),
    KillPoint("socket.connect", ":{gateway}", 1, False),
    KillPoint("socket.connect", ":{gateway}", 3, False),
    KillPoint("os.rename", "/serving.json", 1, False),
    KillPoint("socket.connect", ":{prefect}", 1, True),
    KillPoint("socket.connect", ":{mlflow}", 1, True),
)
MERGED_PROMOTION = (
    *ADAPTER_PROMOTION,
    KillPoint("os.rename", "/nginx.conf", 1, False),
    KillPoint("os.kill", "SIGHUP", 1, False),
)


def promote_and_die(model: str, point: KillPoint) -> int | None:
    """Run an `intent promote MODEL` that kills itself at that point; return its exit code.

    The process is forked from a server that has already imported the promotion.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.serving.promotion", "mlflow.store.tracking.rest_store"])
    process = context.Process(target=_promote, args=(model, point))
    process.start()
    process.join(250)
    return process.exitcode


def _promote(model: str, point: KillPoint) -> None:
    from tasks.settings import get_settings
    from tests.support.scenarios.promotions import promote

    settings = get_settings()
    ports = {
        "gateway": urlsplit(settings.local_endpoint).port,
        "prefect": urlsplit(settings.prefect_api_url).port,
        "mlflow": urlsplit(settings.mlflow_tracking_url).port,
    }
    die_before(point.event, point.target.format(**ports), point.count)
    promote(model)


def die_before(event: str, target: str, count: int) -> None:
    """Make this process send itself SIGKILL before the n-th such event.

    `event` is the name of a `sys.audit` event. `target` (wildcards allowed) matches the end of its
    subject: a path (for os.rename the new path), a signal, host:port, or a program.
    """
    remaining = count

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal remaining
        if name == event and fnmatchcase(_describe(name, arguments), f"*{target}"):
            remaining -= 1
            if not remaining:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _describe(event: str, arguments: tuple[Any, ...]) -> str:
    match event:
        case "os.rename":
            return str(arguments[1])
        case "os.kill":
            return signal.Signals(arguments[1]).name
        case "socket.connect":
            return ":".join(map(str, arguments[1][:2]))
    return str(arguments[0])
