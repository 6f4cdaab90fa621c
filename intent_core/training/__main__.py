"""Fine-tune a model: `python -m intent_core.training JOB.json [PARENT_PID]`.

With PARENT_PID the program stops when that process ends. With several GPUs (or `num_processes` in
the job) it is replaced by torchrun, which starts one process per GPU. torchrun can also start it on
several machines.

Exit codes: 0 the model is written, 2 invalid configuration, 3 invalid data, 75 stopped by a signal
(the same job resumes from its checkpoint), 1 any other error.
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
from intent_core.training.processes import become_torchrun, join_processes
from intent_core.training.protocol import FAULT_FILE, Fault, FaultKind, TrainingJob

EXIT_STOPPED = 75
_EXIT_CODES: dict[FaultKind, int] = {"TrainingError": 1, "ConfigError": 2, "DataError": 3}
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent dies; an orphan would occupy the GPU forever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(EXIT_STOPPED)


def skip_unused(job: TrainingJob) -> None:
    """Block optional libraries that transformers and peft import whenever they are installed.

    They are not used here, and importing them takes a third of the startup time.
    """
    unused = ["datasets", "sklearn"]
    if job.train.method != "qlora":
        unused.append("bitsandbytes")
    for name in unused:
        sys.modules.setdefault(name, cast(ModuleType, None))  # None makes an import fail


@contextlib.contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; wait for an earlier process that is still writing its checkpoint.

    In a distributed training only the first process takes the lock; the others wait for it.
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
    become_torchrun(job, arguments[0])
    if job.log_fields is not None:
        write_json_lines()
        bind_log_context(**job.log_fields)
    skip_unused(job)
    join_processes(job)
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
