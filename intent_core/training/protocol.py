"""What the training program is told and what it tells: job, progress, result."""

import importlib.metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.models.base_model import BaseModelSource
from intent_core.recipe.config import TrainConfig

# Raise it when the same job would train another model: finished trainings are found by it.
PROGRAM_VERSION = 2

PROGRESS_FILE = "progress.jsonl"
RESULT_FILE = "result.json"
FAULT_FILE = "fault.json"
CHECKPOINTS_FOLDER = "checkpoints"
MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
"""Below the model folder."""
TENSORBOARD_FOLDER = "tensorboard"

FaultKind = Literal["ConfigError", "DataError", "TrainingError"]


_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")


def library_versions() -> dict[str, str]:
    """Of what shapes a model beside its recipe."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


class TrainingJob(BaseModel):
    """Everything one training run needs; written as JSON beside its output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: TrainConfig
    base_model: BaseModelSource
    """What `train.base_model` names, on this machine."""
    train_file: Path
    validation_file: Path | None
    output_dir: Path
    cache_dir: Path
    """Where base models are unpacked, named by content."""
    dataset_fingerprint: str = ""
    num_processes: int = 0
    """Processes that train together on this machine; 0: one for each GPU, or one."""
    log_fields: dict[str, str] | None = None
    """What its log lines are about, which are JSON then; None for text."""


class Progress(BaseModel):
    """One line of `progress.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Literal["loading", "training", "validating", "saving"]
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    exact_match: float | None = None
    """Share of validation samples answered right to the last token."""
    learning_rate: float | None = None
    samples_per_second: float | None = None
    seconds_left: float | None = None
    message: str = ""


class Fault(BaseModel):
    """Why the program ended without a model, for the one who started it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    message: str


class TrainingResult(BaseModel):
    """What came of it. `stopped`: a signal ended it; the same job resumes from its checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["finished", "stopped"]
    base_model: str
    base_model_digest: str
    steps: int
    best_step: int | None = None
    """Of the checkpoint that was kept; None: the last step's."""
    num_examples: int
    samples_per_step: int
    per_device_train_batch_size: int
    """Samples in a row, as they fitted into memory."""
    gradient_accumulation_steps: int
    num_devices: int
    sharded: bool = False
    """The model was divided among the devices."""
    packed: bool
    """Rows of packed samples; else padded ones, where the architecture allows no other."""
    seq_length: int
    """The power of two that fits the longest sample."""
    seconds: float
    samples_per_second: float
    train_loss: float
    validation_loss: float | None
    """Per token."""
    validation_exact_match: float | None = None
    device: str
    dtype: str
    versions: dict[str, str]
    losses: tuple[tuple[int, float], ...]
    """(optimizer step, training loss) as logged."""
    validations: tuple[tuple[int, float, float], ...] = ()
    """(optimizer step, validation loss, exact match); the last is of the weights that are kept."""
