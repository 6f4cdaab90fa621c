"""transformers' Trainer over packed rows, and the callbacks that report and stop it."""

import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from intent_core.errors import TrainingError
from intent_core.training.job import PROGRESS_FILE, Progress


class RowTrainer(Trainer):
    """Loss over the supervised positions only; the vocabulary is projected for no others."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Summed cross entropy over the step's supervised tokens, whatever the packing."""
        labels = inputs.pop("labels")
        inputs.pop("shift_labels")
        outputs = model(**inputs, use_cache=False)
        loss = functional.cross_entropy(outputs.logits[0].float(), labels, reduction="sum")
        loss = loss / (labels.numel() if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # DistributedDataParallel averages gradients; the token count is already global.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


class ProgressWriter(TrainerCallback):
    """Appends a line to `progress.jsonl` for every logged step; ends the run on a loss of NaN."""

    def __init__(self, output_dir: Path) -> None:
        self._path = output_dir / PROGRESS_FILE
        self.samples_per_step = 1
        self._started = time.monotonic()
        self._first_step = 0

    def report(self, progress: Progress) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(progress.model_dump_json(exclude_none=True) + "\n")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step}: lower train.learning_rate, "
                "or set train.dtype to float32"
            )
        done = max(1, state.global_step - self._first_step)
        per_step = (time.monotonic() - self._started) / done
        self.report(
            Progress(
                phase="training",
                step=state.global_step,
                total_steps=state.max_steps,
                loss=loss,
                learning_rate=logs.get("learning_rate"),
                samples_per_second=round(self.samples_per_step / per_step, 2),
                seconds_left=round(per_step * (state.max_steps - state.global_step), 1),
            )
        )


class StopOnSignal(TrainerCallback):
    """SIGTERM and SIGINT end training after the step under way, with a checkpoint."""

    def __init__(self) -> None:
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.stopped and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        return control
