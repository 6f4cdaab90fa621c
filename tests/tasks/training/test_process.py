"""The training process: disk space before it starts, and the meaning of its exit code."""

import signal
from pathlib import Path

import pytest

from intent_core.errors import ConfigError, DataError, IntentError, ServiceError, TrainingError
from intent_core.recipe.config import TrainConfig
from intent_core.training.protocol import FAULT_FILE, RESULT_FILE, Fault, FaultKind
from tasks.training.finetune import require_disk
from tasks.training.process import TrainingStopped, judge_exit


def test_no_space_left_for_the_model_is_said_before_training(tmp_path: Path) -> None:
    model, work = tmp_path / "huge", tmp_path / "work"
    model.mkdir()
    work.mkdir()
    (model / "config.json").write_text("{}")
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte; training needs eight times as much
    with pytest.raises(TrainingError, match=r"not enough disk space: .* needs about 8796\.1"):
        require_disk(work, TrainConfig(method="full", base_model=str(model)), model)


def test_a_small_model_has_room(tmp_path: Path, tiny_model: Path) -> None:
    require_disk(tmp_path, TrainConfig(base_model=str(tiny_model)), tiny_model)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("ConfigError", ConfigError), ("DataError", DataError), ("TrainingError", TrainingError)],
)
def test_a_fault_comes_out_as_its_error(
    kind: FaultKind, error: type[IntentError], tmp_path: Path
) -> None:
    fault = Fault(kind=kind, message="first line\nsecond line")
    (tmp_path / FAULT_FILE).write_text(fault.model_dump_json())
    with pytest.raises(error, match=r"^first line\nsecond line$"):
        judge_exit(1, tmp_path, tmp_path / "log")


@pytest.mark.parametrize("code", [75, -signal.SIGTERM])
def test_a_stop_is_no_failure(code: int, tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match="resumes from its checkpoint"):
        judge_exit(code, tmp_path, tmp_path / "log")


def test_torchrun_s_own_exit_code_for_a_stop_is_no_failure(tmp_path: Path) -> None:
    """It exits with 1 for any exit code of its processes; their result file has the status."""
    (tmp_path / RESULT_FILE).write_text('{"status": "stopped"}')
    with pytest.raises(TrainingStopped):
        judge_exit(1, tmp_path, tmp_path / "log")


def test_a_crash_carries_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number}" for number in range(50)))
    with pytest.raises(TrainingError, match=r"exited with code -11[\s\S]*line 49") as caught:
        judge_exit(-11, tmp_path, log)
    assert "line 5\n" not in str(caught.value)


def test_one_that_was_killed_is_worth_another_try(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with pytest.raises(ServiceError, match="resumes from its checkpoint"):
        judge_exit(-signal.SIGKILL, tmp_path, tmp_path / "log")


def test_a_full_disk_in_training_names_the_remedy(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\nOSError: [Errno 28] No space left on device\n")
    with pytest.raises(TrainingError, match=r"no space left.*INTENT_HOME"):
        judge_exit(1, tmp_path, log)


def test_success_is_silent(tmp_path: Path) -> None:
    judge_exit(0, tmp_path, tmp_path / "log")
