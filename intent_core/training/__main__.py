"""`python -m intent_core.training JOB.json` (under torchrun for several devices).

Exit codes: 0 the model is written, 3 bad data, 2 bad configuration, 75 stopped by a
signal with a checkpoint from which the same job goes on, 1 anything else.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from intent_core.errors import ConfigError, DataError, TrainingError
from intent_core.training.job import FAULT_FILE, Fault, FaultKind, TrainingJob

EXIT_STOPPED = 75
_EXIT_CODES: dict[FaultKind, int] = {"TrainingError": 1, "ConfigError": 2, "DataError": 3}
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """An orphan would hold the device for ever: when the parent dies, the kernel sends SIGTERM."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(EXIT_STOPPED)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write(__doc__ or "")
        return 2
    die_with_parent()
    job = TrainingJob.model_validate_json(Path(arguments[0]).read_bytes())
    try:
        from intent_core.training.program import run

        return 0 if run(job).status == "finished" else EXIT_STOPPED
    except (ConfigError, DataError, TrainingError) as error:
        kind: FaultKind = "TrainingError"
        if isinstance(error, ConfigError):
            kind = "ConfigError"
        elif isinstance(error, DataError):
            kind = "DataError"
        fault = Fault(kind=kind, message=str(error))
        (job.output_dir / FAULT_FILE).write_text(fault.model_dump_json(), encoding="utf-8")
        sys.stderr.write(f"{kind}: {error}\n")
        return _EXIT_CODES[kind]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
