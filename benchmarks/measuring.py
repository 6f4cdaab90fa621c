"""Measure time, memory and arithmetic of one turn of a contender, and the machine's peak."""

import ctypes
import gc
import sys
import threading
import time
from typing import Any

import psutil
import torch
from torch.utils import flop_counter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_COUNTER: Any = flop_counter


def _count_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return _COUNTER.sdpa_flop_count(query, key, value)


def _count_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return _COUNTER.sdpa_backward_flop_count(gradient, query, key, value)


# The counter does not know the attention kernels of CPUs.
_ATEN = torch.ops.aten
_CPU_KERNELS = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _count_attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _count_backward,
}


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
        self._thread = threading.Thread(target=self._watch, daemon=True)
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


class Meter(TrainerCallback):
    """Counts the arithmetic of the first step, in which pools and states are allocated, and times
    the others."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tokens = 0
        self.num_rows = 0
        self.losses: list[float] = []
        self._started = 0.0
        self._counter = _COUNTER.FlopCounterMode(display=False, custom_mapping=_CPU_KERNELS)

    @property
    def flop(self) -> int:
        """Floating-point operations of all kernels in the first step."""
        return int(self._counter.get_total_flops())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        self.num_rows = len(more["train_dataloader"].dataset)
        self._hook = more["model"].register_forward_pre_hook(self._count, with_kwargs=True)
        self._counter.__enter__()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step == 1:
            self._counter.__exit__(None, None, None)
            self._hook.remove()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == 1:
            self._started = time.perf_counter()
        self.seconds = time.perf_counter() - self._started

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        if "loss" in more["logs"]:
            self.losses.append(float(more["logs"]["loss"]))

    def _count(self, model: Any, positional: Any, named: dict[str, Any]) -> None:
        self.tokens += named["input_ids"].numel()


def measure_peak(dtype: torch.dtype) -> float:
    """Return the FLOP per second of large matrix products, the fastest of several."""
    has_gpu = torch.cuda.is_available()
    size, device = (8192, "cuda") if has_gpu else (1024, "cpu")
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(a, b)
        if has_gpu:
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - started)
    return float(2 * size**3 / fastest)
