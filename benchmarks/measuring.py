"""Measure time and memory of one turn of a contender."""

import ctypes
import gc
import sys
import threading
import time
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class PeakMemory:
    """Peak memory of this process in MB, above its memory at the start."""

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(
                0
            )  # otherwise memory freed by the previous turn would count as used
        self.megabytes = 0.0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return self
        self._ended = threading.Event()
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.megabytes = torch.cuda.max_memory_allocated() / 1e6
            return
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            held = self._process.memory_info().rss - self._before
            self.megabytes = max(self.megabytes, held / 1e6)


class Clock(TrainerCallback):
    """Measures time from the end of the first step, in which the optimizer allocates its state."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == 1:
            self._started = time.perf_counter()
        self.seconds = time.perf_counter() - self._started
