"""The training program, started as a process with a job file."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from intent_core.training.protocol import FAULT_FILE, PROGRESS_FILE, Fault, TrainingResult
from tests.support.builders.training_jobs import FULL, read_result, write_job

pytestmark = pytest.mark.timeout(180)


def start(job: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    with (job.parent / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "intent_core.training", str(job)],
            env=environment,
            stdout=log,
            stderr=log,
        )


def train(job: Path, code: int = 0) -> TrainingResult:
    assert start(job).wait(120) == code, (job.parent / "log").read_text()
    return read_result(job)


def steps(job: Path) -> list[int]:
    path = job.parent / "out" / PROGRESS_FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row["step"] for row in rows if row["phase"] == "training"]


def wait_for_step(job: Path, process: "subprocess.Popen[bytes]", wanted: int) -> None:
    deadline = time.monotonic() + 150
    while max(steps(job), default=0) < wanted:
        assert process.poll() is None, (job.parent / "log").read_text()
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.05)


def test_a_stopped_run_resumes_to_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    options = [*FULL, "train.num_train_epochs=40", "train.global_batch_size=4"]
    options += ["train.learning_rate=1e-3"]
    straight = write_job(tmp_path / "straight", tiny_model, *options)
    whole = train(straight)

    stopped = write_job(tmp_path / "stopped", tiny_model, *options, "train.save_steps=7")
    process = start(stopped)
    wait_for_step(stopped, process, 9)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert read_result(stopped).status == "stopped"
    reached = read_result(stopped).steps
    assert 9 <= reached < whole.steps
    (stopped.parent / "out" / PROGRESS_FILE).unlink()
    # An incomplete checkpoint from a later kill is skipped.
    torn = stopped.parent / "out" / "checkpoints" / f"checkpoint-{whole.steps}"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')

    assert train(stopped).steps == whole.steps
    assert steps(stopped)[0] == reached + 1
    digests = [
        hashlib.sha256((job.parent / "out" / "model" / "model.safetensors").read_bytes())
        for job in (straight, stopped)
    ]
    assert digests[0].hexdigest() == digests[1].hexdigest()


def test_the_program_dies_with_its_parent(tiny_model: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, tiny_model, *FULL, "train.num_train_epochs=5000")
    starter = (
        "import os, subprocess, sys;"
        f"print(subprocess.Popen([sys.executable, '-m', 'intent_core.training', {str(job)!r},"
        "str(os.getpid())],"
        "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        wait_for_step(job, parent, 3)
        parent.kill()
        psutil.wait_procs([child], timeout=60)
        assert not child.is_running()


def test_too_many_samples_longer_than_seq_length_are_refused_with_the_remedy(
    tiny_model: Path, tmp_path: Path
) -> None:
    job = write_job(tmp_path, tiny_model, *FULL, "train.seq_length=16")
    assert start(job).wait(60) == 3
    fault = Fault.model_validate_json((tmp_path / "out" / FAULT_FILE).read_bytes())
    assert fault.kind == "DataError"
    assert "30 of 30 rows of train.jsonl were rejected" in fault.message
    assert "train.seq_length is 16: raise it to " in fault.message


def test_what_it_says_is_json_where_that_is_wanted(tiny_model: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, tiny_model, *FULL, "train.seq_length=16")
    fields = {"flow_run_id": "1", "project": "p"}
    job.write_text(json.dumps({**json.loads(job.read_text()), "log_fields": fields}))
    assert start(job).wait(60) == 3
    *_, last = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    said = json.loads(last)
    assert said["message"].startswith("DataError: ") and said["level"] == "ERROR"
    assert fields.items() <= said.items()
