"""Several processes train the same model as one, with the model replicated or sharded."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from intent_core.training import program
from tasks.settings.environment import LOOPBACK_ONLY
from tests.support.builders.training_jobs import FULL, read_job, read_result, write_job
from tests.support.processes.listeners import find_exposed

pytestmark = pytest.mark.timeout(240)

TESTS = Path(__file__).parents[2]
SHORT = ["train.num_train_epochs=3", "train.global_batch_size=8", "train.learning_rate=5e-3"]
SHARDED = ["train.fsdp=true", "train.best_checkpoint=validation_loss", "train.save_steps=3"]


@pytest.fixture(autouse=True)
def keep_signals() -> Iterator[None]:
    """Restore the signal handlers that the program replaces in its process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def weights(job: Path) -> dict[str, torch.Tensor]:
    return load_file(job.parent / "out" / "model" / "model.safetensors")


@pytest.mark.parametrize(
    "method",
    [
        pytest.param([*FULL, *SHARDED], id="sharded", marks=pytest.mark.slow),
        pytest.param(["train.method=lora", "train.lora_dim=8"], id="lora"),
    ],
)
def test_two_processes_train_what_one_does(
    tiny_model: Path, tmp_path: Path, method: list[str]
) -> None:
    options = [*SHORT, "train.per_device_train_batch_size=2", *method]
    alone, together = (
        write_job(tmp_path / str(count), tiny_model, *options, num_processes=count)
        for count in (1, 2)
    )
    first = program.run(read_job(alone))
    shards = "train.fsdp=true" in method
    done, exposed = run_two_processes(together, sharded=shards)
    assert done.returncode == 0, done.stderr
    assert shards or not exposed  # the shards are those of a torchrun of our own
    second = read_result(together)
    assert (first.num_devices, second.num_devices) == (1, 2)
    assert (first.sharded, second.sharded) == (False, shards)
    assert first.samples_per_step == second.samples_per_step == 8
    for (_, one), (_, other) in zip(first.losses, second.losses, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    trained = weights(together)
    for name, weight in weights(alone).items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-3, atol=1e-4)
    if shards:
        take_last_steps_back(together)
        assert run_two_processes(together, sharded=True)[0].returncode == 0
        for name, weight in weights(together).items():
            torch.testing.assert_close(trained[name], weight, rtol=0, atol=0)


def run_two_processes(
    job: Path, sharded: bool
) -> tuple["subprocess.CompletedProcess[str]", set[str]]:
    """Return what the processes did, and the sockets on which other machines could reach them."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = (
        [*torchrun, str(TESTS / "support" / "processes" / "fsdp_on_cpu.py")]
        if sharded
        else ["-m", "intent_core.training"]
    )
    exposed: set[str] = set()
    with subprocess.Popen(
        [sys.executable, *program, str(job)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **LOOPBACK_ONLY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                exposed.update(find_exposed(process.pid))
            try:
                output, errors = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                continue
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    return done, exposed


def take_last_steps_back(job: Path) -> None:
    """Remove the last checkpoint, as if the run had been killed before it."""
    out = job.parent / "out"
    shutil.rmtree(out / "model")
    (out / "result.json").unlink()
    shutil.rmtree(out / "checkpoints" / "checkpoint-9")
    assert [folder.name for folder in (out / "checkpoints").iterdir()] == ["checkpoint-6"]
