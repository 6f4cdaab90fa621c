"""Run a function in a process for which file permissions hold, even as root."""

import ctypes
import multiprocessing
import os
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
_VERSION_3 = 0x20080522


def run_unprivileged(work: Callable[[], Result]) -> Result:
    """Return the result of `work`, which runs in a child process without capabilities."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run() -> None:
        header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
        if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
            raise OSError(ctypes.get_errno(), "capset failed")
        results.put(work())
        # The end of a forked process would wait for threads that only its parent has.
        os._exit(0)

    process = context.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    result: Result = results.get()
    return result
