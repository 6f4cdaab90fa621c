"""The files of the training program: job (input), progress, result and fault (output)."""

import importlib.metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.manifest import DatasetManifest
from intent_core.models.base_model import BaseModelSource
from intent_core.recipe.config import TrainConfig

# Increase it when the same job would train a different model: finished trainings are reused by it.
PROGRAM_VERSION = 2

PROGRESS_FILE = "progress.jsonl"
RESULT_FILE = "result.json"
FAULT_FILE = "fault.json"
TOO_LONG_FILE = "too_long.jsonl"
"""Samples that were not trained because they are too long."""
CHECKPOINTS_FOLDER = "checkpoints"
MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
"""Inside the model folder."""
TENSORBOARD_FOLDER = "tensorboard"

FaultKind = Literal["ConfigError", "DataError", "TrainingError"]


_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that influence the trained model."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


class TrainingJob(BaseModel):
    """The input of one training run, written as JSON next to its output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: TrainConfig
    base_model: BaseModelSource
    """Location of `train.base_model` on this machine."""
    train_file: Path
    validation_file: Path | None
    output_dir: Path
    cache_dir: Path
    """Folder in which base models are unpacked, named by digest."""
    dataset_fingerprint: str = ""
    dataset: DatasetManifest | None = None
    """The dataset next to `train_file`: the places and the number of its rows. None: the files of
    the splits are all there is."""
    num_processes: int = 0
    """Number of processes on this machine; 0 means one per GPU, or one without GPUs."""
    log_fields: dict[str, str] | None = None
    """Fields added to each log line, with logs as JSON; None for logs as text."""


class Progress(BaseModel):
    """One line of `progress.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Literal["loading", "training", "validating", "saving"]
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    exact_match: float | None = None
    """Fraction of validation samples whose answers are right in every token."""
    learning_rate: float | None = None
    samples_per_second: float | None = None
    seconds_left: float | None = None
    message: str = ""


class Fault(BaseModel):
    """The error that ended the program, for its parent process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    message: str


class TrainingResult(BaseModel):
    """The result. `stopped` means stopped by a signal; the same job resumes from its checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["finished", "stopped"]
    base_model: str
    base_model_digest: str
    steps: int
    best_step: int | None = None
    """Step of the kept checkpoint; None means the last step."""
    num_examples: int
    num_too_long: int = 0
    """Samples of both splits that were not trained because they are too long."""
    samples_per_step: int
    per_device_train_batch_size: int
    """Samples per row, after halving to fit into memory."""
    gradient_accumulation_steps: int
    num_devices: int
    sharded: bool = False
    """Whether the model was sharded across the devices."""
    packed: bool
    """Whether samples were packed; they are padded if the architecture does not support packing."""
    seq_length: int
    """The power of two that fits the longest sample."""
    seconds: float
    samples_per_second: float
    train_loss: float
    validation_loss: float | None
    """Mean loss per token."""
    validation_exact_match: float | None = None
    device: str
    dtype: str
    versions: dict[str, str]
    losses: tuple[tuple[int, float], ...]
    """(optimizer step, training loss) as logged."""
    validations: tuple[tuple[int, float, float], ...] = ()
    """(optimizer step, validation loss, exact match); the last entry is for the kept weights."""
