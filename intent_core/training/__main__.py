"""`python -m intent_core.training JOB.json [PARENT_PID]`; given a parent, it ends when that does.

With several GPUs (or `num_processes` in the job) it becomes torchrun, which starts it once for
each. It may be started by torchrun on several machines as well.

Exit codes: 0 the model is written, 3 bad data, 2 bad configuration, 75 stopped by a
signal with a checkpoint from which the same job goes on, 1 anything else.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

from intent_core.errors import ConfigError, DataError, TrainingError
from intent_core.files import file_lock
from intent_core.json_logs import bind_log_context, write_json_lines
from intent_core.training.protocol import FAULT_FILE, Fault, FaultKind, TrainingJob

EXIT_STOPPED = 75
_EXIT_CODES: dict[FaultKind, int] = {"TrainingError": 1, "ConfigError": 2, "DataError": 3}
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """An orphan would hold the device for ever: when the parent dies, the kernel sends SIGTERM."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(EXIT_STOPPED)


def become_torchrun(job: TrainingJob, arguments: list[str]) -> None:
    """Several devices: torchrun in this process' place, which keeps its death signal."""
    if "WORLD_SIZE" in os.environ:
        return
    count = job.num_processes
    if count == 0:
        import torch

        count = max(1, torch.cuda.device_count())
    if count > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        options = [f"--nproc-per-node={count}", "-m", "intent_core.training", arguments[0]]
        os.execv(sys.executable, [*launcher, *options])


def skip_unused(job: TrainingJob) -> None:
    """Keep out what transformers and peft import because it is installed.

    It takes a third of the time until a training begins, and nothing of it is used.
    """
    unused = ["datasets", "sklearn"]
    if job.train.method != "qlora":
        unused.append("bitsandbytes")
    for name in unused:
        sys.modules.setdefault(name, cast(ModuleType, None))  # to Python: there is none


@contextlib.contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Wait for one that was told to stop and still writes its checkpoint here.

    Of several processes of one training the first waits, and the others for it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with file_lock(folder / ".lock"):
        yield


def main(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(__doc__ or "")
        return 2
    if len(arguments) == 2:
        die_with_parent(int(arguments[1]))
    elif "WORLD_SIZE" in os.environ:
        die_with_parent(os.getppid())
    job = TrainingJob.model_validate_json(Path(arguments[0]).read_bytes())
    become_torchrun(job, arguments)
    if job.log_fields is not None:
        write_json_lines()
        bind_log_context(**job.log_fields)
    skip_unused(job)
    try:
        from intent_core.training.program import run

        with only_trainer(job.output_dir):
            return 0 if run(job).status == "finished" else EXIT_STOPPED
    except (ConfigError, DataError, TrainingError) as error:
        kind: FaultKind = "TrainingError"
        if isinstance(error, ConfigError):
            kind = "ConfigError"
        elif isinstance(error, DataError):
            kind = "DataError"
        fault = Fault(kind=kind, message=str(error))
        (job.output_dir / FAULT_FILE).write_text(fault.model_dump_json(), encoding="utf-8")
        if job.log_fields is None:
            sys.stderr.write(f"{kind}: {error}\n")
        else:
            logging.getLogger("intent_core.training").error("%s: %s", kind, error)
        return _EXIT_CODES[kind]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
