"""One phase of `check_gpu.py`: `gpu_phases.py PHASE FOLDER`; writes FOLDER/PHASE.json.

Imports `intent_core.training` and what that imports, nothing else of this project.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from measuring import measure_peak
from random_models import train_tokenizer, write_random_model
from training_contenders import SAMPLE, build_scene, list_contenders, take_turn
from transformers import Qwen2Config

from intent_core.language.prompt import DEFAULT_SYSTEM_PROMPT
from intent_core.recipe.config import TrainConfig
from intent_core.training.methods import compute_dtype, device_name

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "vllm")
TINY: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
REFERENCE: Mapping[str, Any] = {  # Qwen1.5-1.8B
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 5504,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "full": {"method": "full", "lora_dim": 0},
    "lora": {"method": "lora", "lora_dim": 16},
    "qlora": {"method": "qlora", "lora_dim": 16, "load_in_4bit": True},
}


def read_rows() -> list[Mapping[str, str]]:
    rows: list[Mapping[str, str]] = json.loads(SAMPLE.read_text(encoding="utf-8"))
    return rows


class Phases:
    """The phases by name; each returns its figures."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._is_tiny = folder, options.tiny
        self._tiny, self._reference = folder / "tiny", options.model or folder / "reference"

    def save(self, name: str, figures: Mapping[str, Any]) -> None:
        text = json.dumps(figures)
        (self._folder / f"{name}.json").write_text(text, encoding="utf-8")

    def machine(self) -> dict[str, Any]:
        installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
        figures: dict[str, Any] = {
            "device": device_name(),
            "python": platform.python_version(),
            "versions": {n: importlib.metadata.version(n) for n in LIBRARIES if n in installed},
        }
        dtypes = [torch.float32]
        if torch.cuda.is_available():
            dtypes.append(torch.bfloat16)
            figures["memory_gb"] = round(torch.cuda.mem_get_info()[1] / 1e9, 1)
        peaks = {str(dtype).partition(".")[2]: measure_peak(dtype) / 1e12 for dtype in dtypes}
        figures["peak_tflops"] = {name: round(peak, 3) for name, peak in peaks.items()}
        self._write_models()
        return figures

    def _write_models(self) -> None:
        texts = [DEFAULT_SYSTEM_PROMPT, *(text for row in read_rows() for text in row.values())]
        tokenizer = train_tokenizer(texts, 600)
        write_random_model(self._tiny, Qwen2Config, tokenizer, **TINY)
        if self._is_tiny:
            write_random_model(self._reference, Qwen2Config, tokenizer, **TINY)
        elif not self._reference.is_dir():
            tokenizer, where = train_tokenizer(texts, 4000), torch.device("cuda")
            write_random_model(
                self._reference, Qwen2Config, tokenizer, torch.bfloat16, where, **REFERENCE
            )

    def losses(self) -> dict[str, Any]:
        """Return our losses by method; the parent process chooses the device."""
        figures = {}
        for name, options in METHODS.items():
            if name == "qlora" and not self._has_bitsandbytes():
                continue
            config = TrainConfig(**options, learning_rate=3e-3, dtype="float32")
            scene = build_scene(self._tiny, config, read_rows()[:64], steps=6, batch=8)
            figures[name] = take_turn(scene, "ours").losses
        return figures

    losses_cpu = losses

    def full(self) -> dict[str, Any]:
        return self._measure("full")

    def lora(self) -> dict[str, Any]:
        return self._measure("lora")

    def qlora(self) -> dict[str, Any]:
        return self._measure("qlora")

    def serving(self) -> dict[str, Any]:
        """Run the latency benchmark, which imports the whole pipeline, in another process."""
        command = [sys.executable, str(Path(__file__).with_name("latency.py")), "--quick"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures

    def _has_bitsandbytes(self) -> bool:
        return importlib.util.find_spec("bitsandbytes") is not None

    def _measure(self, method: str) -> dict[str, Any]:
        """Measure all contenders in changing order; save the figures after each turn."""
        config = TrainConfig(**METHODS[method], learning_rate=1e-4)
        steps, batch, turns = (2, 4, 1) if self._is_tiny else (8, 64, 2)
        scene = build_scene(self._reference, config, read_rows(), steps, batch)
        peak = measure_peak(getattr(torch, compute_dtype(config)))
        names = list_contenders()
        figures: dict[str, Any] = {"peak_tflops": round(peak / 1e12, 3)}
        speeds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(turns):
            for name in names if number % 2 else reversed(names):
                turn = take_turn(scene, name)
                speeds[name].append(turn.samples_per_second)
                speed = statistics.median(speeds[name])
                figures[name] = {
                    "samples_per_second": round(speed, 2),
                    "memory_mb": round(turn.memory_mb),
                    "tokens_per_sample": round(turn.tokens_per_sample, 1),
                    "gflop_per_sample": round(turn.flop_per_sample / 1e9, 3),
                    "share_of_peak": round(turn.flop_per_sample * speed / peak, 3),
                    "losses": turn.losses,
                }
                self.save(method, figures)
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    phases = Phases(options.folder, options)
    run: Callable[[], dict[str, Any]] = getattr(phases, options.phase)
    phases.save(options.phase, run())


if __name__ == "__main__":
    main()
