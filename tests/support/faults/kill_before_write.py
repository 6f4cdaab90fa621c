"""A process that is killed right before a file of its appears: what it did until then stays."""

import os
import signal
import sys
from typing import Any


def die_before_write(place: str, count: int = 1) -> None:
    """SIGKILL before the count-th time that a file gets its name below a folder of that path."""
    writes = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal writes
        if event in ("os.rename", "os.link") and place in os.fspath(arguments[1]):
            writes += 1
            if writes == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
