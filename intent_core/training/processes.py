"""One training process per device, started by torchrun, without a port on the network.

torchrun's own rendezvous listens on all addresses and unpickles what it receives. The processes of
one machine meet in a file instead.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

from intent_core.training.protocol import TrainingJob

_MEETING_FILE = "processes"
_TIMEOUT = timedelta(minutes=30)


def become_torchrun(job: TrainingJob, job_file: str) -> None:
    """Replace this process by torchrun if there are several devices.

    `exec` keeps the process id and the parent-death signal.
    """
    if "WORLD_SIZE" in os.environ:
        return
    count = job.num_processes
    if count == 0:
        import torch

        count = max(1, torch.cuda.device_count())
    if count > 1:
        job.output_dir.mkdir(parents=True, exist_ok=True)
        _meeting_file(job).unlink(missing_ok=True)  # of a killed training
        rendezvous = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", "--nnodes=1"]
        options = [*rendezvous, f"--nproc-per-node={count}", "-m", "intent_core.training", job_file]
        # Without this, torchrun serves a store for the processes' first contact.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *options])


def join_processes(job: TrainingJob) -> None:
    """Connect the processes that `become_torchrun` started; others connect by their own store."""
    serves_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "True") == "True"
    if serves_store or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    count = int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group(
        store=torch.distributed.FileStore(str(_meeting_file(job)), count),  # type: ignore[attr-defined]
        rank=int(os.environ["RANK"]),
        world_size=count,
        timeout=_TIMEOUT,
    )


def _meeting_file(job: TrainingJob) -> Path:
    return job.output_dir / _MEETING_FILE
