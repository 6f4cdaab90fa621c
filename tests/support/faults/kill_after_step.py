"""A promotion or a restore whose process is killed right after one of its steps."""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

STEPS = (
    ("tasks.serving.targets.local.ensure_model_server", 1),
    ("tasks.serving.targets.local.require_golden", 1),
    ("tasks.serving.targets.local.write_aliases", 1),
    ("tasks.serving.targets.local.require_golden", 2),
    ("tasks.serving.targets.local.write_state", 1),
    ("tasks.serving.targets.local.retire_others", 1),
    ("tasks.serving.promotion.point_champion", 1),
)
"""Of a promotion, in order: what is done, and for which time."""


def promote_and_die(model: str, step: str, count: int) -> int | None:
    """Exit code of a promotion that SIGKILLs itself when `step` has returned `count` times.

    `step` is MODULE.FUNCTION. The process is forked from one that has imported the promotion.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.serving.promotion", "mlflow.store.tracking.rest_store"])
    process = context.Process(target=_promote, args=(model, step, count))
    process.start()
    process.join(250)
    return process.exitcode


def _promote(model: str, step: str, count: int) -> None:
    from tasks.serving.promotion import promote_release
    from tasks.settings import get_settings

    _die_after(step, count)
    promote_release(get_settings(), model)


def _die_after(step: str, count: int) -> None:
    module, _, name = step.rpartition(".")
    where = importlib.import_module(module)
    original, calls = getattr(where, name), 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        result = original(*arguments, **named)
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(where, name, dying)


def dies_after(function: str, count: int) -> Callable[[], None]:
    """In a forked child: SIGKILL once that function of the restore has returned so often."""

    from tasks.maintenance.backup import restore as restoring

    def arm() -> None:
        original, calls = getattr(restoring, function), iter(range(1, 1000))

        def dying(*arguments: object, **options: object) -> object:
            result = original(*arguments, **options)
            if next(calls) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(restoring, function, dying)

    return arm
