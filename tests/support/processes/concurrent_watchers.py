"""Concurrent watchers, one process each; the first is killed after it has started a run.

    python -m tests.support.processes.concurrent_watchers COUNT

Prints as JSON how many were killed and how many finished.
"""

import collections
import json
import os
import signal
import sys
import traceback

from flows.watch_exports import watch_exports
from tests.support.faults.kill_before_write import die_before_write


def look(number: int) -> None:
    if number == 0:
        die_before_write("/taken/")
    watch_exports()
    if number == 0:
        # Another watcher started the run; kill this one anyway, before it reports its exit.
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
