"""The training program as a process: start, progress, stop, and the meaning of its exit code."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from intent_core.errors import (
    ConfigError,
    DataError,
    IntentError,
    ServiceError,
    TrainingError,
)
from intent_core.training.protocol import (
    FAULT_FILE,
    PROGRESS_FILE,
    RESULT_FILE,
    Fault,
    FaultKind,
    Progress,
)
from tasks.orchestration.progress import Tracker
from tasks.settings import training_environment
from tasks.settings.private_home import PRIVATE_UMASK
from tasks.tracking.live_curves import LiveCurves

logger = logging.getLogger(__name__)

_STOP_GRACE_S = 60
_EXIT_STOPPED = 75
_ERRORS: dict[FaultKind, type[IntentError]] = {
    "ConfigError": ConfigError,
    "DataError": DataError,
    "TrainingError": TrainingError,
}


class TrainingStopped(KeyboardInterrupt):
    """The program was stopped and has saved a checkpoint. Ends the run like Ctrl-C."""


def run_program(job: Path, folder: Path, tracker: Tracker, curves: LiveCurves | None) -> None:
    """Run the program and report its progress; stop it if the run is cancelled.

    Raises the error that its exit code means, see `judge_exit`.
    """
    progress_file, log = folder / PROGRESS_FILE, folder / "training.log"
    progress_file.unlink(missing_ok=True)
    (folder / FAULT_FILE).unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "intent_core.training", str(job), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A separate session: on Ctrl-C the program gets one SIGTERM, from us.
            start_new_session=True,
            umask=PRIVATE_UMASK,
            env=training_environment(),
        )
    try:
        shown = 0
        while process.poll() is None:
            shown = show_progress(progress_file, shown, tracker, curves)
            time.sleep(0.5)
        show_progress(progress_file, shown, tracker, curves)
    except BaseException:
        stop_program(process)
        raise
    judge_exit(process.returncode, folder, log)


def show_progress(path: Path, shown: int, tracker: Tracker, curves: LiveCurves | None) -> int:
    """Report the lines of `path` after the first `shown`; return the new number of lines."""
    if not path.exists():
        return shown
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    for line in complete[shown:]:
        progress = Progress.model_validate_json(line)
        if curves:
            curves.add(progress)
        if progress.phase == "training":
            message = (
                f"loss {progress.loss:.3f}, {progress.samples_per_second} samples/s, "
                f"{progress.seconds_left:.0f} s left"
            )
            tracker.update(progress.step, progress.total_steps, message)
        else:
            logger.info(progress.message)
    return len(complete)


def stop_program(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM so that the program saves a checkpoint; kill its group after 60 s."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_STOP_GRACE_S)
    except ProcessLookupError:
        process.wait()
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def judge_exit(code: int, folder: Path, log: Path) -> None:
    """Raise the error that the exit code means, with the last lines of the log; 0 is success."""
    if code == 0:
        return
    # torchrun replaces the program's exit code, so the result file also counts.
    if code in (_EXIT_STOPPED, -signal.SIGTERM) or (folder / RESULT_FILE).exists():
        raise TrainingStopped("training was stopped; the next run resumes from its checkpoint")
    if (folder / FAULT_FILE).exists():
        fault = Fault.model_validate_json((folder / FAULT_FILE).read_bytes())
        raise _ERRORS[fault.kind](fault.message)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if any("No space left on device" in line for line in lines[-60:]):
        raise TrainingError(
            f"no space left for the model or its checkpoint in {folder}. Free some space or set "
            "INTENT_HOME to a larger disk; the next run resumes from the last complete checkpoint"
        )
    if code == -signal.SIGKILL:
        # A `ServiceError`, so that the task is retried and resumes from the checkpoint.
        raise ServiceError(
            "the training process was killed (SIGKILL), often by the OOM killer; the next attempt "
            f"resumes from its checkpoint. See {log}"
        )
    tail = "\n".join(lines[-20:])
    raise TrainingError(
        f"the training process exited with code {code}; last lines of {log}:\n{tail}"
    )
