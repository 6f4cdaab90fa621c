"""Programs that are restarted as by systemd, and an S3 server that keeps its ports and files."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers import seaweedfs


class Unit:
    """A program of the installation, restarted whenever it exits (`Restart=always`)."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, restart_s: float) -> None:
        self.name, self.restart_s = name, restart_s
        self.starts = 0
        self._command, self._folder = list(command), folder
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_up, name=name)

    def start(self) -> None:
        self._thread.start()

    def _keep_up(self) -> None:
        while not self._stop.is_set():
            with (self._folder / f"{self.name}.log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.starts += 1
            while self._process.poll() is None and not self._stop.wait(0.5):
                pass
            self._stop.wait(self.restart_s)

    @property
    def pid(self) -> int | None:
        """The program's pid while it runs, else None."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def stop(self, grace_s: float = 90) -> None:
        """Stop like `systemctl stop`: SIGTERM, then SIGKILL after the grace period."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Store:
    """The S3 server; it keeps its ports and files after each restart."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        folder.mkdir(parents=True)
        self._ports = seaweedfs.free_ports(2 * len(seaweedfs.SERVERS))
        port = self._ports[2 * seaweedfs.SERVERS.index("s3")]
        self.server = seaweedfs.Seaweed(f"http://127.0.0.1:{port}")
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return seaweedfs.spawn(self._root, self._ports, self.server, {})

    def keep_up(self) -> None:
        if self.process.poll() is not None:
            self.process = self._start()

    def wait(self) -> None:
        if not seaweedfs.wait_for_buckets(self.process, self.server):
            raise RuntimeError(f"SeaweedFS did not start; see {self._root / 'log'}")


def find_holders(lock: Path) -> list[int]:
    """Return the pids of the processes that hold a file's `flock`."""
    if not lock.exists():
        return []
    number = str(lock.stat().st_ino)
    rows = (row.split() for row in Path("/proc/locks").read_text().splitlines())
    return [
        int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == number
    ]
