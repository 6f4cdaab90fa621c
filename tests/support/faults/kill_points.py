"""A promotion whose process is killed right before one of its effects on the outside."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class KillPoint(NamedTuple):
    """Before the n-th event of that kind on that target."""

    event: str
    """As `sys.audit` names it: os.rename, os.kill, socket.connect."""
    target: str
    """Of os.rename the end of the new path, of os.kill the signal, of socket.connect a server."""
    count: int
    is_promoted: bool
    """Is the new model in `serving.json` by then?"""


ADAPTER_KILL_POINTS = (
    KillPoint("os.rename", "aliases", 1, False),
    KillPoint("socket.connect", "gateway", 1, False),
    KillPoint("socket.connect", "gateway", 3, False),
    KillPoint("os.rename", "serving.json", 1, False),
    KillPoint("socket.connect", "prefect", 1, True),
    KillPoint("socket.connect", "mlflow", 1, True),
)
MERGED_KILL_POINTS = (
    *ADAPTER_KILL_POINTS,
    KillPoint("os.rename", "nginx.conf", 1, False),
    KillPoint("os.kill", "SIGHUP", 1, False),
)


def promote_and_die(model: str, point: KillPoint) -> int | None:
    """Exit code of an `intent promote MODEL` that SIGKILLs itself at that point.

    The process is forked from one that has imported the promotion.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.serving.promotion", "mlflow.store.tracking.rest_store"])
    process = context.Process(target=_promote, args=(model, point))
    process.start()
    process.join(250)
    return process.exitcode


def _promote(model: str, point: KillPoint) -> None:
    from tests.support.scenarios.promotions import promote

    sys.addaudithook(_make_hook(point))
    promote(model)


def _make_hook(point: KillPoint) -> Callable[[str, tuple[Any, ...]], None]:
    from tasks.settings import get_settings

    settings, count = get_settings(), 0
    urls = {
        "gateway": settings.local_endpoint,
        "prefect": settings.prefect_api_url,
        "mlflow": settings.mlflow_tracking_url,
    }
    ports = {name: urlsplit(url).port for name, url in urls.items()}

    def is_target(arguments: tuple[Any, ...]) -> bool:
        if point.event == "os.rename":
            target = os.fspath(arguments[1])
            return str(target).endswith(point.target) or f"/{point.target}/" in str(target)
        if point.event == "os.kill":
            return bool(arguments[1] == signal.Signals[point.target])
        address = arguments[1]
        return isinstance(address, tuple) and address[1] == ports[point.target]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == point.event and is_target(arguments):
            count += 1
            if count == point.count:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def die_before(event: str, target: str, count: int) -> None:
    """Have this process SIGKILL itself before the n-th such event; `target` ends its path.

    `event` is as `sys.audit` names it; of os.rename the new path counts, of subprocess.Popen the
    program.
    """
    remaining = count

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal remaining
        if name == event and str(arguments[event == "os.rename"]).endswith(target):
            remaining -= 1
            if not remaining:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
