"""Start, find and stop servers that outlive the command that started them.

Each server has a record file, by which later commands find and stop it.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.errors import ServiceError
from intent_core.files import file_lock, write_atomically
from tasks.settings.children import Child, child_environment
from tasks.settings.private_home import PRIVATE_UMASK

# The servers outlive this process. Without a reference, Python would warn that they still run.
_started: "list[subprocess.Popen[bytes]]" = []


class ProcessRecord(BaseModel):
    """A process we started, identified by pid and start time because pids are reused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pid: int
    created: float
    port: int
    log: Path

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@contextlib.contextmanager
def in_use(folder: Path, name: str) -> Iterator[None]:
    """Mark a process as in use, so that no cleanup stops it; several holders may share it."""
    with file_lock(folder / f"{name}.in-use", shared=True):
        yield


def is_in_use(folder: Path, name: str) -> bool:
    path = folder / f"{name}.in-use"
    if not path.exists():
        return False
    try:
        with file_lock(path, blocking=False):
            return False
    except BlockingIOError:
        return True


def start_process(
    folder: Path,
    name: str,
    command: Sequence[str],
    port: int,
    child: Child = "gateway",
    **environment: str,
) -> ProcessRecord:
    """Start a server detached from the terminal; its output goes to `<folder>/<name>.log`.

    Its environment is `environment` and what `child_environment` passes to `child`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A separate session, so that Ctrl-C or a cancelled flow does not stop the server.
            start_new_session=True,
            umask=PRIVATE_UMASK,
            env=child_environment(child, **environment),
            cwd=folder,
        )
    _started.append(process)
    try:
        created = psutil.Process(process.pid).create_time()
        record = ProcessRecord(name=name, pid=process.pid, created=created, port=port, log=log)
        write_atomically(folder / f"{name}.json", record.model_dump_json())
    except BaseException:
        # Without a record it could never be stopped.
        process.kill()
        raise
    return record


def find_process(folder: Path, name: str) -> ProcessRecord | None:
    """Return the running process with that name, or None."""
    record = _read_record(folder, name)
    return record if record and record.is_alive() else None


def _read_record(folder: Path, name: str) -> ProcessRecord | None:
    try:
        return ProcessRecord.model_validate_json((folder / f"{name}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def end_leftovers(folder: Path, name: str) -> None:
    """Kill the children of a server that died: they still hold its port and GPU memory."""
    record = _read_record(folder, name)
    if record is None or record.is_alive() or _is_another(record):
        return
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == record.pid and process.pid != record.pid:
                process.kill()
                process.wait(5)


def _is_another(record: ProcessRecord) -> bool:
    """Return whether the pid now belongs to another process.

    A pid is not reused while its session still has members.
    """
    try:
        return abs(psutil.Process(record.pid).create_time() - record.created) >= 1
    except psutil.NoSuchProcess:
        return False


def list_processes(folder: Path) -> list[ProcessRecord]:
    """List the running processes that are recorded in the folder."""
    records = (find_process(folder, path.stem) for path in sorted(folder.glob("*.json")))
    return [record for record in records if record]


def stop_process(folder: Path, record: ProcessRecord, grace_s: float = 20) -> None:
    """Send SIGTERM to the process and its children, then SIGKILL after `grace_s` seconds."""
    if record.is_alive():
        leader = psutil.Process(record.pid)
        family = [leader, *leader.children(recursive=True)]
        _signal_group(record.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=grace_s)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
    (folder / f"{record.name}.json").unlink(missing_ok=True)
    _started[:] = [process for process in _started if process.poll() is None]


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def wait_until_ready(
    record: ProcessRecord,
    is_ready: Callable[[], bool],
    timeout_s: float,
    error: type[ServiceError] = ServiceError,
) -> None:
    """Wait until a server is ready.

    Raises `error` with the last lines of the log if the server exits or `timeout_s` passes.
    """
    started = time.monotonic()
    while not is_ready():
        waited = time.monotonic() - started
        if not record.is_alive():
            raise error(f"{record.name} exited while starting; {last_lines(record.log)}")
        if waited > timeout_s:
            raise error(f"{record.name} not ready after {waited:.0f} s; {last_lines(record.log)}")
        time.sleep(0.3)


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, for an error message."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return f"last lines of {log}:\n" + "\n".join(f"    {line}" for line in lines)
