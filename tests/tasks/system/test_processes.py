"""Detached servers are started, found and stopped by their record; no other process is touched."""

import socket
import sys
from pathlib import Path

import psutil
import pytest

from intent_core.errors import ConfigError, ServingError
from tasks.system.ports import require_free_port
from tasks.system.processes import (
    ProcessRecord,
    end_leftovers,
    find_process,
    list_processes,
    start_process,
    stop_process,
    wait_until_ready,
)

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_started_process_is_found_and_stopped_with_its_children(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
    script += "'import time; time.sleep(600)']); print('up', flush=True); time.sleep(600)"
    record = start_process(tmp_path, "family", [sys.executable, "-c", script], 1)
    wait_until_ready(record, lambda: "up" in record.log.read_text(), 30)
    children = psutil.Process(record.pid).children()
    assert len(children) == 1
    assert find_process(tmp_path, "family") == record
    stop_process(tmp_path, record)
    assert not children[0].is_running()
    assert find_process(tmp_path, "family") is None
    assert list_processes(tmp_path) == []


def test_what_a_killed_server_leaves_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
    script += "'import time; time.sleep(600)']); print('up', flush=True); time.sleep(600)"
    record = start_process(tmp_path, "family", [sys.executable, "-c", script], 1)
    wait_until_ready(record, lambda: "up" in record.log.read_text(), 30)
    leader = psutil.Process(record.pid)
    (child,) = leader.children()
    end_leftovers(tmp_path, "family")
    assert child.is_running(), "the server is running, so there are no leftovers"
    leader.kill()
    psutil.wait_procs([leader], timeout=10)
    assert child.is_running()
    end_leftovers(tmp_path, "family")
    assert not child.is_running()


def test_a_process_that_took_over_the_pid_is_left_alone(tmp_path: Path) -> None:
    other = start_process(tmp_path / "other", "other", SLEEPER, 1)
    stale = ProcessRecord(name="x", pid=other.pid, created=other.created - 60, port=1, log=tmp_path)
    assert not stale.is_alive()
    (tmp_path / "x.json").write_text(stale.model_dump_json())
    end_leftovers(tmp_path, "x")
    stop_process(tmp_path, stale)
    assert other.is_alive()
    stop_process(tmp_path / "other", other)


def test_one_that_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); "
    record = start_process(tmp_path, "deaf", [sys.executable, "-c", script + "time.sleep(600)"], 1)
    wait_until_ready(record, lambda: "up" in record.log.read_text(), 30)
    stop_process(tmp_path, record, grace_s=0.5)
    assert not record.is_alive()


def test_a_server_that_dies_while_starting_shows_its_last_lines(tmp_path: Path) -> None:
    record = start_process(tmp_path, "broken", [sys.executable, "-c", "raise SystemExit('why')"], 1)
    with pytest.raises(ServingError, match=r"broken exited while starting[\s\S]*why"):
        wait_until_ready(record, lambda: False, 30, ServingError)


def test_a_server_that_stays_silent_is_named(tmp_path: Path) -> None:
    record = start_process(tmp_path, "silent", SLEEPER, 1)
    with pytest.raises(ServingError, match="silent not ready after"):
        wait_until_ready(record, lambda: False, 0.5, ServingError)
    stop_process(tmp_path, record)


def test_a_taken_port_names_its_holder_and_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            require_free_port("127.0.0.1", port, "mlflow", "INTENT_MLFLOW_PORT")
    message = str(caught.value)
    assert f"port {port} for mlflow is in use by" in message
    assert f"pid {psutil.Process().pid}" in message
    assert "INTENT_MLFLOW_PORT=<port>" in message
