"""A complete installation on loopback, supervised as by systemd and an operator.

One machine, one INTENT_HOME: an S3 server, Prefect, MLflow, the gateway and a model server, a
worker for each pool, `intent serve`, and repeated runs of `intent watch`. Processes that die are
restarted after a delay; there is no other repair.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tasks.storage.transfers import FETCHING
from tests.support.builders.tiny_model import build_tiny_model
from tests.support.servers import seaweedfs
from tests.support.soak.supervised_programs import Store, Unit, find_holders

ALIAS = "soak"
PREFIX = "soak/"
KINDS = (
    "training",
    "flow",
    "worker",
    "vllm",
    "mlflow",
    "prefect",
    "store",
    "gateway",
    "watcher",
    "serve",
    "download",
)
"""What is killed; `download` is a run between the start of a download and its comparison."""
PAUSED_KINDS = ("promoter", "watcher", "serve")
"""What is stopped for a while and continues; `promoter` is a run that holds the serving lock."""
LOST_AFTER_S = 90
_RESTART_S = 3.0


class Platform:
    """All processes of the installation, with their folder and settings."""

    def __init__(
        self, folder: Path, epochs: int, projects: int, databases: Mapping[str, str]
    ) -> None:
        """`databases` contains the settings of databases other than SQLite, if any."""
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        self.projects = [f"soak-{number + 1}" for number in range(projects)]
        self.store = Store(folder / "s3")
        self._prepare_environment(databases)
        self._write_projects(epochs)
        self._stop = threading.Event()
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep")
        self.units: dict[str, Unit] = {}

    def _prepare_environment(self, databases: Mapping[str, str]) -> None:
        """Set the environment of this process and its children, before Prefect is imported."""
        for name in [n for n in os.environ if n.startswith(("INTENT_", "PREFECT_", "MLFLOW_"))]:
            del os.environ[name]
        prefect, mlflow, gateway = seaweedfs.free_ports(3)
        server = self.store.server
        os.environ.update(
            **databases,
            **server.full.environment(),
            PYTHONPATH=str(Path(__file__).parents[3]),
            INTENT_HOME=str(self.home),
            INTENT_STORE=f"s3://{server.bucket}/{PREFIX.rstrip('/')}",
            INTENT_S3_ENDPOINT_URL=server.url,
            INTENT_S3_REGION=seaweedfs.REGION,
            INTENT_S3_ADDRESSING_STYLE="path",
            INTENT_PREFECT_PORT=str(prefect),
            INTENT_MLFLOW_PORT=str(mlflow),
            INTENT_GATEWAY_PORT=str(gateway),
            INTENT_MLFLOW_WEIGHTS="store",
            INTENT_PROJECTS=str(self.folder / "projects.yaml"),
            # A soak test kills a run more often than production does in a year.
            INTENT_MAX_RESTARTS="50",
            INTENT_LOST_AFTER_S=str(LOST_AFTER_S),
            INTENT_RETRY_DELAYS_S="[2, 5, 10, 20, 40]",
            PREFECT_WORKER_QUERY_SECONDS="2",
            PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS="5",
            OMP_WAIT_POLICY="passive",
        )

    def _write_projects(self, epochs: int) -> None:
        model = build_tiny_model(self.folder / "model")
        recipe = {
            "data": {
                "test_fraction": 0.15,
                "validation_fraction": 0.05,
                "near_duplicate_similarity": 1.0,
            },
            "train": {
                "base_model": str(model),
                "method": "lora",
                "lora_dim": 8,
                "learning_rate": 3e-3,
                "num_train_epochs": epochs,
                "global_batch_size": 8,
                "per_device_train_batch_size": 8,
                "save_steps": 20,
                "system_prompt": "Recognize the intent.",
            },
            # The quality of the models does not matter here: accept every model.
            "gate": {
                "min_intent_accuracy": 0,
                "min_parameter_accuracy": 0,
                "min_test_examples": 10,
                "max_regression": 1,
            },
            "evaluate": {"max_new_tokens": 12},
            "serve": {
                "mode": "adapter",
                "alias": ALIAS,
                "max_model_len": 256,
                "max_lora_rank": 8,
                "dtype": "float32",
            },
        }
        projects = {}
        for name in self.projects:
            path = self.folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump({**recipe, "project": name}), encoding="utf-8")
            projects[name] = {
                "exports": f"exports/{name}/",
                "recipe": str(path),
                "unchanged_minutes": 0,
            }
        (self.folder / "projects.yaml").write_text(yaml.safe_dump(projects))

    def start(self) -> None:
        self.store.wait()
        intent = [sys.executable, "-m", "flows"]
        prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
        self.run("up", *intent, "up")
        self.run("deploy", *prefect, "deploy", "--all", cwd=Path(__file__).parents[3])
        self._upkeep.start()
        for pool in ("cpu", "gpu"):
            command = [*prefect, "worker", "start", "--pool", pool, "--type", "process"]
            self._add(f"worker-{pool}", command, _RESTART_S)
        self._add("serve", [*intent, "serve"], _RESTART_S)
        self._add("watcher", [*intent, "watch"], 15)

    def _add(self, name: str, command: Sequence[str], restart_s: float) -> None:
        self.units[name] = Unit(name, command, self.folder, restart_s)
        self.units[name].start()

    def run(self, log: str, *command: str, cwd: Path | None = None, timeout_s: float = 600) -> int:
        """Run a command and return its exit code; its output goes to `<log>.log`."""
        with (self.folder / f"{log}.log").open("ab") as output:
            done = subprocess.run(
                command,
                cwd=cwd or self.folder,
                env={**os.environ, "PREFECT_API_URL": self.prefect_url},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=timeout_s,
            )
        return done.returncode

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{os.environ['INTENT_PREFECT_PORT']}/api"

    def _keep_up(self) -> None:
        """Restart Prefect, MLflow and the store, as an operator's supervisor would."""
        while not self._stop.wait(2):
            self.store.keep_up()
            if not all(self.leader(name) for name in ("prefect", "mlflow")):
                self._stop.wait(_RESTART_S)
                try:
                    self.run("up", sys.executable, "-m", "flows", "up")
                except subprocess.TimeoutExpired:
                    pass  # retried in the next round; see up.log

    def leader(self, name: str) -> int | None:
        """Return the pid of a running server that `intent up` started; None if it is dead."""
        path = self.home / "processes" / f"{name}.json"
        try:
            record = json.loads(path.read_text())
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) < 1
            return int(record["pid"]) if same and process.status() != "zombie" else None
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None

    def targets(self, kind: str) -> list[int]:
        """Return the pids of that kind that can be killed now."""
        if kind == "store":
            return [self.store.process.pid] if self.store.process.poll() is None else []
        if kind in ("watcher", "serve"):
            return [pid for pid in [self.units[kind].pid] if pid]
        if kind == "worker":
            pids = [self.units[name].pid for name in ("worker-cpu", "worker-gpu")]
            return [pid for pid in pids if pid]
        if kind in ("mlflow", "prefect", "gateway"):
            return [pid for pid in [self.leader(kind)] if pid]
        if kind == "vllm":
            names = [path.stem for path in (self.home / "processes").glob("vllm-*.json")]
            return [pid for pid in map(self.leader, names) if pid]
        if kind == "download":
            return self._find_downloading()
        if kind == "promoter":
            return [pid for pid in find_holders(self.home / "serving.lock") if self._is_run(pid)]
        module = "intent_core.training" if kind == "training" else "prefect.engine"
        return [p.pid for p in self.processes() if module in _command(p)]

    def _find_downloading(self) -> list[int]:
        """Wait up to a second for a run to download a model."""
        # The search takes longer than some downloads, so it comes first.
        runs = self.targets("flow")
        until = time.monotonic() + 1
        while runs and time.monotonic() < until:
            if any((self.home / "models").glob(f"{FETCHING}-*")):
                return [max(runs)]  # the last run to start; others wait for it
            time.sleep(0.002)
        return []

    def _is_run(self, pid: int) -> bool:
        return any(p.pid == pid and "prefect.engine" in _command(p) for p in self.processes())

    def send(self, number: signal.Signals, kind: str, choose: random.Random) -> int | None:
        """Send a signal to a process of that kind and return its pid; None if none is running."""
        pids = self.targets(kind)
        if not pids:
            return None
        pid = choose.choice(sorted(pids))
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def processes(self) -> Iterator[psutil.Process]:
        """Yield the live processes of this installation, by environment, folder or arguments."""
        for process in psutil.process_iter():
            try:
                is_ours = (
                    process.environ().get("INTENT_HOME") == str(self.home)
                    or Path(process.cwd()).is_relative_to(self.folder)
                    # A training does not get our settings.
                    or any(part.startswith(f"{self.folder}/") for part in process.cmdline())
                )
                if is_ours and process.pid != os.getpid() and process.status() != "zombie":
                    yield process
            except (psutil.Error, OSError):
                continue

    def orphans(self) -> list[str]:
        """Return the processes that no known process started."""
        names = [path.stem for path in (self.home / "processes").glob("*.json")]
        roots = [self.store.process.pid, os.getpid()]
        roots += [pid for pid in map(self.leader, names) if pid]
        roots += [unit.pid for unit in self.units.values() if unit.pid]
        known = set(roots)
        for pid in roots:
            try:
                known |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
            except psutil.NoSuchProcess:
                continue
        found = [process for process in self.processes() if process.pid not in known]
        return [f"{p.pid}: {' '.join(_command(p))[:160]}" for p in found if p.is_running()]

    def stop(self) -> list[str]:
        """Stop everything in order; kill and return the processes that are still running."""
        self._stop.set()
        if self._upkeep.is_alive():
            self._upkeep.join()
        for unit in self.units.values():
            unit.stop()
        self.run("down", sys.executable, "-m", "flows", "down")
        self.store.process.kill()
        self.store.process.wait()
        time.sleep(2)
        left = [(p, f"{p.pid}: {' '.join(_command(p))[:160]}") for p in self.processes()]
        for process, _ in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return [text for _, text in left]


def _command(process: psutil.Process) -> list[str]:
    try:
        command: Any = process.cmdline()
    except psutil.Error:
        return []
    return list(command)
