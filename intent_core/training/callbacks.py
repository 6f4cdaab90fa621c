"""Trainer callbacks: write progress, stop on a signal, fail on a loss of NaN."""

import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from intent_core.errors import TrainingError
from intent_core.training.protocol import PROGRESS_FILE, Progress
from intent_core.training.trainer import EXACT_MATCH, LOSS


class ProgressWriter(TrainerCallback):
    """Appends a line to `progress.jsonl` for every logged step; fails if the loss is not finite.

    In a distributed training only the first process writes.
    """

    def __init__(self, output_dir: Path, writes: bool = True) -> None:
        self._path = output_dir / PROGRESS_FILE
        self._writes = writes
        self.samples_per_step = 1
        self._started = time.monotonic()
        self.first_step = 0

    def report(self, progress: Progress) -> None:
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(progress.model_dump_json(exclude_none=True) + "\n")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._started, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step}. Lower train.learning_rate or "
                "set train.dtype to float32"
            )
        done = max(1, state.global_step - self.first_step)
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

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        metrics = kwargs["metrics"]
        self.report(
            Progress(
                phase="validating",
                step=state.global_step,
                total_steps=state.max_steps,
                loss=metrics[LOSS],
                exact_match=metrics[EXACT_MATCH],
                message=f"step {state.global_step}: validation loss {metrics[LOSS]:.3f}, "
                f"exact match {metrics[EXACT_MATCH]:.1%}",
            )
        )


class StopOnSignal(TrainerCallback):
    """Stops training on SIGTERM or SIGINT after the current step, with a checkpoint."""

    def __init__(self) -> None:
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if args.world_size > 1:
            # All processes must stop at the same step; otherwise they wait for each other forever.
            anyone = torch.tensor(float(self.stopped), device=args.device)
            torch.distributed.all_reduce(anyone, torch.distributed.ReduceOp.MAX)
            self.stopped = bool(anyone)
        if self.stopped and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        return control


class JudgeLastStep(TrainerCallback):
    """Evaluates and saves the last step, so that it can be chosen as the best checkpoint."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        return control
