"""Watchers that look at once, each a process; the first is killed after it has started a run.

    python -m tests.support.processes.concurrent_watchers COUNT

Prints how many were killed and how many looked to the end, as JSON.
"""

import collections
import json
import os
import signal
import sys
import traceback
from typing import Any

import flows.watch_exports as module


def die_after(step: str) -> None:
    done = getattr(module, step)

    def kill(*arguments: Any) -> None:
        done(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, step, kill)


def look(number: int) -> None:
    if number == 0:
        die_after("_start_run")
    module.watch_exports()
    if number == 0:
        # Another was first; it dies all the same, before it has said how it ended.
        os.kill(os.getpid(), signal.SIGKILL)


def main(count: int) -> int:
    start, go = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(start, 1)
            try:
                look(number)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    ended = collections.Counter(codes)
    sys.stdout.write(json.dumps({"killed": ended[-signal.SIGKILL], "looked": ended[0]}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
