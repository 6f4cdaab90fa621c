"""Check for orphaned processes and stale process records."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.orchestration.run_liveness import has_live_run
from tasks.serving.state import read_state
from tasks.serving.targets.local import LocalTarget
from tasks.serving.vllm.server import server_name
from tasks.storage.step_results import work_folder
from tasks.system.processes import (
    ProcessRecord,
    is_in_use,
    list_processes,
    stop_process,
)
from tasks.training.finetune import training_lock

_TRAINING = "intent_core.training"
_GRACE_S = 60.0  # a training writes a checkpoint before it ends


def check_trainings(examination: Examination) -> Iterator[Diagnosis]:
    """Stop trainings whose flow has died: they occupy the device for no run."""
    settings = examination.settings
    trainings = work_folder(settings, "trainings")
    for process in _own_processes():
        folder = _folder_of(process, trainings)
        if folder is None or is_in_use(settings.layout.processes, training_lock(folder)):
            continue
        yield examination.repair(
            "orphans",
            f"the training in {folder} (pid {process.pid}) is still running, but its flow has died",
            "stopped; its checkpoint was kept",
            partial(_stop_family, process),
        )


def check_model_servers(examination: Examination) -> Iterator[Diagnosis]:
    """Stop vLLM processes without a record, and servers that neither serve nor are evaluated."""
    settings = examination.settings
    folder = settings.layout.processes
    if LocalTarget(settings).is_promoting() or has_live_run(settings):
        return  # a promotion or run in progress may have started servers that look orphaned
    known = list_processes(folder)
    leaders = {record.pid for record in known}
    aliases = settings.layout.aliases
    for process in _own_processes():
        if _is_model_server(process, aliases) and not _belongs_to(process, leaders):
            yield examination.repair(
                "orphans",
                f"a vLLM process of this home (pid {process.pid}) has no record",
                "stopped",
                partial(_stop_family, process),
            )
    served = read_state(settings).current
    keep = server_name(served.artifact, served.serve) if served else ""
    for record in known:
        if not record.name.startswith("vllm-") or record.name == keep:
            continue
        if not is_in_use(folder, record.name):
            yield examination.repair(
                "orphans",
                f"{record.name} (pid {record.pid}) runs a model that is not served",
                "stopped",
                partial(stop_process, folder, record),
            )


def check_services(examination: Examination) -> Iterator[Diagnosis]:
    """Report services that died without being stopped; remove stale records of model servers."""
    settings = examination.settings
    folder = settings.layout.processes
    served = read_state(settings).current
    keep = server_name(served.artifact, served.serve) if served else ""
    for path in sorted(folder.glob("*.json")):
        record = _read_record(path)
        if record and record.is_alive():
            continue
        name = path.stem
        if name.startswith("vllm-") and name != keep:
            yield examination.repair(
                "services",
                f"the process in the record of {name} no longer exists",
                "record removed",
                partial(path.unlink, missing_ok=True),
            )
        else:
            log = path.with_suffix(".log")
            yield report_problem(
                "services",
                f"{name} was started on this machine and has died; its log is {log}",
                "run `intent up` to start it again, or `intent down` to remove its record",
            )


def _read_record(path: Path) -> ProcessRecord | None:
    try:
        return ProcessRecord.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _own_processes() -> list[psutil.Process]:
    """Return the processes of the current user."""
    own = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and process.status() != psutil.STATUS_ZOMBIE:
                own.append(process)
        except psutil.Error:
            continue
    return own


def _folder_of(process: psutil.Process, trainings: Path) -> Path | None:
    """Return the training folder in this home if the process is a training's main process."""
    try:
        command = process.cmdline()
        if _TRAINING not in command:
            return None
        parent = process.parent()
        if parent and _TRAINING in parent.cmdline():
            return None  # a worker process: it ends with the main process
        job = Path(command[command.index(_TRAINING) + 1])
    except (psutil.Error, IndexError):
        return None
    return job.parent if job.is_relative_to(trainings) else None


def _is_model_server(process: psutil.Process, aliases: Path) -> bool:
    try:
        file = process.environ().get("INTENT_ALIASES_FILE", "")
    except psutil.Error:
        return False
    return bool(file) and Path(file).is_relative_to(aliases)


def _belongs_to(process: psutil.Process, leaders: set[int]) -> bool:
    """Whether a known server started the process: each server leads a session of its children."""
    try:
        if os.getsid(process.pid) in leaders:
            return True
        return any(parent.pid in leaders for parent in process.parents())
    except (psutil.Error, ProcessLookupError):
        return True


def _stop_family(process: psutil.Process) -> None:
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    _signal([process], kill=False)
    _, alive = psutil.wait_procs(family, timeout=_GRACE_S)
    _signal(alive, kill=True)
    psutil.wait_procs(alive, timeout=5)


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.NoSuchProcess:
            continue
