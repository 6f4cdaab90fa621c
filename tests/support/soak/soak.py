"""Soak test: run the whole platform under load and kill its processes one after another.

    PYTHONPATH=. python -m tests.support.soak.soak [--minutes 20] [--seed 1] [--quick] [--postgres]

Exports keep arriving and callers keep sending requests while processes get SIGKILL, or SIGSTOP and
later SIGCONT: first each kind once, then random ones. Afterwards it waits until all work is done,
runs an operator's cron commands, and checks that nothing was lost, duplicated or left behind; if
so, the exit code is 1.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tests.support.builders.labeled_export import labelled_rows, to_itag
from tests.support.soak.installation import KINDS, LOST_AFTER_S, PAUSED_KINDS, PREFIX, Platform

_FIRST_S = 1800
"""Limit until the first model is served; before that there is no model server to kill."""
_APPEARS_S = 300
"""Limit until a process of a kind appears; some kinds exist only during certain steps."""
_CALM_S, _IDLE_S = 3600, 600
"""Limits until all work is done, and until exports without a run count as lost when idle."""
_WAITING = 2
"""Number of exports that may wait for their run before the next one arrives."""


class Exports:
    """Uploads exports; `contents` maps the content of each to its key."""

    def __init__(self, platform: Platform, every_s: float, choose: random.Random) -> None:
        self._platform, self._every_s, self._choose = platform, every_s, choose
        self.contents: dict[tuple[str, str], str] = {}

    def arrive(self) -> None:
        """Upload an export; every third contains the same rows as before and needs no training."""
        number = len(self.contents) + 1
        projects = self._platform.projects
        project = projects[number % len(projects)]
        rows = labelled_rows()
        if number % 3 or len(projects) > 1:
            track = f"track {number}"
            rows.append({"instruction": f"play {track}", "output": f"play_music({track})"})
        lines = "\n".join(map(to_itag, rows)) + "\n" * (1 + number)
        body, key = lines.encode(), f"exports/{project}/{number:04d}.manifest"
        server = self._platform.store.server
        server.client().put_object(Bucket=server.bucket, Key=PREFIX + key, Body=body)
        self.contents[project, hashlib.sha256(body).hexdigest()[:16]] = key
        say(f"export {key} arrived")

    def keep_arriving(self, stop: threading.Event) -> None:
        from tests.support.soak.invariants import unfinished_exports

        while not stop.is_set():
            try:
                if unfinished_exports(set(self.contents)) < _WAITING:
                    self.arrive()
            except (BotoCoreError, ClientError):
                stop.wait(2)  # retry, as any sender would
                continue
            stop.wait(self._every_s * self._choose.uniform(0.5, 1.5))


class Callers:
    """Sends requests continuously."""

    def __init__(self) -> None:
        self.told: collections.Counter[str] = collections.Counter()
        self.last_failure = 0.0
        self.longest_s = 0.0
        """The longest time without an answer, in seconds."""

    def keep_asking(self, stop: threading.Event) -> None:
        from tests.support.soak.invariants import answers

        answered = time.monotonic()
        while not stop.wait(0.5):
            status, _ = answers()
            now = time.monotonic()
            if status == 200:
                self.told["ok"] += 1
            else:
                self.told[f"failed ({status or 'no connection'})"] += 1
                self.last_failure = now
            self.longest_s = max(self.longest_s, now - answered)
            if status == 200:
                answered = now


class Soak:
    """The phases of the soak test."""

    def __init__(self, arguments: argparse.Namespace, platform: Platform) -> None:
        self._arguments, self._platform = arguments, platform
        self._choose = random.Random(arguments.seed)
        every_s = 20 if arguments.quick else 45
        self.exports = Exports(platform, every_s, random.Random(arguments.seed + 1))
        self.callers = Callers()
        self.kills: collections.Counter[str] = collections.Counter()
        self.pauses: collections.Counter[str] = collections.Counter()
        self.violations: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        say("starting the platform")
        self._platform.start()
        if self._arguments.calm:
            for _ in self._platform.projects:
                self.exports.arrive()
            return
        self._start_thread(self.exports.keep_arriving)
        self._wait_for_first_answer()
        self._start_thread(self.callers.keep_asking)
        until = time.monotonic() + 60 * self._arguments.minutes
        for kind in KINDS:
            self._kill(kind, _APPEARS_S)
            self._wait()
        for kind in PAUSED_KINDS:
            self._pause(kind, _APPEARS_S)
            self._wait()
        while time.monotonic() < until:
            kind = self._choose.choice(KINDS + PAUSED_KINDS)
            self._choose.choice(self._events(kind))(kind, 10)
            self._wait()
        never = [kind for kind in KINDS if not self.kills[kind]]
        self.violations += [f"no {kind} process appeared that could be killed" for kind in never]
        never = [kind for kind in PAUSED_KINDS if not self.pauses[kind]]
        self.violations += [f"no {kind} process appeared that could be paused" for kind in never]

    def _events(self, kind: str) -> list[Callable[[str, float], None]]:
        return [self._kill] * (kind in KINDS) + [self._pause] * (kind in PAUSED_KINDS)

    def _start_thread(self, work: Callable[[threading.Event], None]) -> None:
        thread = threading.Thread(target=work, args=(self._stop,), name=work.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait(self) -> None:
        shortest, longest = (5, 15) if self._arguments.quick else (10, 40)
        time.sleep(self._choose.uniform(shortest, longest))

    def _wait_for_first_answer(self) -> None:
        from tests.support.soak.invariants import answers

        started = time.monotonic()
        while answers()[0] != 200:
            if time.monotonic() - started > _FIRST_S:
                raise RuntimeError(f"no model is being served after {_FIRST_S} s, before any kill")
            time.sleep(2)
        say(f"the first model answers after {time.monotonic() - started:.0f} s")

    def _kill(self, kind: str, within_s: float) -> None:
        pid = self._send(signal.SIGKILL, kind, within_s)
        if pid:
            self.kills[kind] += 1
            say(f"killed {kind} (pid {pid})")

    def _pause(self, kind: str, within_s: float) -> None:
        """Pause a process for less or more than the time after which a run counts as lost."""
        pid = self._send(signal.SIGSTOP, kind, within_s)
        if pid:
            self.pauses[kind] += 1
            seconds = self._choose.choice((5, LOST_AFTER_S + 15))
            say(f"paused {kind} (pid {pid}) for {seconds} s")
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _send(self, number: signal.Signals, kind: str, within_s: float) -> int | None:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            pid = self._platform.send(number, kind, self._choose)
            if pid:
                return pid
            time.sleep(0.01 if kind in ("download", "promoter") else 0.5)
        say(f"no {kind} process to send {number.name} to now")
        return None

    def settle(self) -> None:
        """Wait until all work is done, then run the commands of an operator's cron."""
        if self._threads:
            self._stop.set()
            for thread in self._threads:
                thread.join(120)
        say("no more kills: waiting until all work is done")
        started = busy_at = time.monotonic()
        while True:
            busy, unfinished = self._count_left()
            now = time.monotonic()
            busy_at = now if busy else busy_at
            if not busy and not unfinished:
                say(f"all work done after {now - started:.0f} s")
                break
            if now - started > _CALM_S or now - busy_at > _IDLE_S:
                self.violations.append(
                    f"after {now - started:.0f} s {busy} run(s) are active and {unfinished} "
                    "export(s) have no finished run"
                )
                break
            time.sleep(5)
        # Otherwise the check would report the running watcher as an orphan.
        self._platform.units["watcher"].stop()
        for command in self._cron():
            code = self._platform.run("cron", sys.executable, "-m", "flows", *command)
            if code:
                self.violations.append(f"`intent {' '.join(command)}` exited with code {code}")

    def _count_left(self) -> tuple[int, int]:
        from tests.support.soak.invariants import count_left

        contents = set(self.exports.contents)
        try:
            return count_left(contents)
        except Exception:  # Prefect is down or still restarting
            return 1, len(contents)

    def _cron(self) -> list[list[str]]:
        commands = [["watch"], ["record"], ["reconcile"]]
        shown = subprocess.run(
            [sys.executable, "-m", "flows", "--help"], capture_output=True, text=True, check=True
        )
        return (
            [*commands, ["doctor", "--set-lifecycle"]] if " doctor " in shown.stdout else commands
        )

    def check(self) -> dict[str, object]:
        from tests.support.soak.invariants import check

        found = check(self._platform, self.exports.contents)
        self.violations += found.violations
        return {
            "minutes": self._arguments.minutes,
            "seed": self._arguments.seed,
            "kills": dict(self.kills),
            "pauses": dict(self.pauses),
            "exports": len(self.exports.contents),
            "flow_runs": found.runs,
            "mlflow_runs": found.mlflow_runs,
            "answers": dict(self.callers.told),
            "longest_without_answer_s": round(self.callers.longest_s, 1),
            "served": found.served,
            "violations": self.violations,
        }


@contextlib.contextmanager
def _databases() -> Iterator[dict[str, str]]:
    """Start a private PostgreSQL server and yield its settings."""
    from tests.support.servers.postgres import running_postgres

    with running_postgres() as server:
        yield {
            f"INTENT_{name.upper()}_DATABASE_URL": server.create(name)
            for name in ("prefect", "mlflow")
        }


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def report(result: dict[str, object], logs: str) -> None:
    for name, value in result.items():
        if name != "violations":
            say(f"{name}: {value}")
    violations = result["violations"]
    assert isinstance(violations, list)
    for violation in violations:
        say(f"VIOLATED: {violation}")
    say(f"{len(violations)} violation(s); logs: {logs}")
    sys.stdout.write(json.dumps(result) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=20, help="how long to kill processes")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random kills")
    parser.add_argument("--quick", action="store_true", help="use shorter trainings and pauses")
    parser.add_argument("--projects", type=int, default=1, help="number of projects with exports")
    parser.add_argument(
        "--postgres", action="store_true", help="use PostgreSQL for Prefect and MLflow"
    )
    parser.add_argument("--calm", action="store_true", help="one export per project, no kills")
    parser.add_argument("--keep", type=Path, help="keep state and logs in this empty folder")
    arguments = parser.parse_args()
    # Make SIGTERM, and SIGINT in a background job, stop it like Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="intent-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        databases = stack.enter_context(_databases()) if arguments.postgres else {}
        epochs = 10 if arguments.quick else 30
        platform = Platform(folder.resolve(), epochs, arguments.projects, databases)
        soak = Soak(arguments, platform)
        result = None
        try:
            from tasks.settings import get_settings

            get_settings()
            soak.run()
            soak.settle()
            result = soak.check()
        except KeyboardInterrupt:
            say("stopping")
        finally:
            left = platform.stop()
    if result is None:
        return 130
    soak.violations += [f"still running after `intent down`: {text}" for text in left]
    stays = bool(soak.violations or arguments.keep)
    report(result, str(folder) if stays else "removed")
    if not stays:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main())
