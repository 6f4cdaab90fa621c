"""One turn of a peer's trainer, in the peer's own environment: `peer_trainer.py TASK.json`.

Imports the peer and `measuring`, nothing of this project. The last line is one JSON object.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measuring import Meter, PeakMemory
from transformers import set_seed


@dataclasses.dataclass(frozen=True)
class PeerTask:
    """What to train; rows are in the order of the other contenders."""

    peer: str
    model: str
    rows: str
    """JSON lines with `input_ids`, `labels` and `messages`."""
    steps: int
    batch: int
    learning_rate: float
    method: str
    lora_dim: int
    lora_alpha: int
    dtype: str
    seed: int
    row_tokens: int
    """Tokens of a packed row, or of the longest sample."""

    def arguments(self, folder: str) -> dict[str, Any]:
        """Return the arguments of transformers' Trainer, which all peers pass on."""
        return {
            "output_dir": folder,
            "max_steps": self.steps,
            "per_device_train_batch_size": self.batch,
            "gradient_accumulation_steps": 1,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant",
            "bf16": self.dtype == "bfloat16",
            "seed": self.seed,
            "logging_steps": 1,
            "save_strategy": "no",
        }


def train_llamafactory(task: PeerTask, meter: Meter, folder: str, *, packing: bool = False) -> None:
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp

    rows = [json.loads(line) for line in Path(task.rows).read_text(encoding="utf-8").splitlines()]
    arguments = task.arguments(folder) | {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": task.model,
        "template": "chatml",
        "finetuning_type": task.method,
        "cutoff_len": task.row_tokens,
        "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True,
        "report_to": "none",
    }
    if task.method == "lora":
        arguments |= {"lora_rank": task.lora_dim, "lora_alpha": task.lora_alpha}
    arguments |= write_dataset(rows, Path(folder))
    if packing:
        # Its own template and packing; a row is a batch.
        arguments |= {"per_device_train_batch_size": 1, "neat_packing": True}
    else:
        # The same token ids as the other contenders.
        ids = [{k: row[k] for k in ("input_ids", "labels")} for row in rows]
        ids = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in ids]
        tokenized = str(Path(folder) / "tokenized")
        DatasetDict({"train": Dataset.from_list(ids)}).save_to_disk(tokenized)
        arguments |= {"tokenized_path": tokenized}
    run_exp(arguments, callbacks=[meter])


def write_dataset(rows: list[Any], folder: Path) -> dict[str, Any]:
    """Write the rows as LLaMA-Factory reads them; return the arguments that name them."""
    turns = [[message["content"] for message in row["messages"]] for row in rows]
    alpaca = [{"system": s, "instruction": u, "input": "", "output": a} for s, u, a in turns]
    (folder / "rows.json").write_text(json.dumps(alpaca), encoding="utf-8")
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    about = {"rows": {"file_name": "rows.json", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
    return {"dataset": "rows", "dataset_dir": str(folder)}


def train_llamafactory_packing(task: PeerTask, meter: Meter, folder: str) -> None:
    train_llamafactory(task, meter, folder, packing=True)


def train_swift(task: PeerTask, meter: Meter, folder: str) -> None:
    """Without packing: ms-swift's packing refuses to run without a flash-attention kernel."""
    from swift.arguments import SftArguments
    from swift.pipelines.train.sft import SwiftSft

    class Measured(SwiftSft):  # type: ignore[misc]
        def train(self, trainer: Any) -> None:
            trainer.add_callback(meter)
            trainer.train()

    options = task.arguments(folder) | {
        "model": task.model,
        "model_type": "llama",
        "template": "chatml",
        "tuner_type": task.method,
        "dataset": [task.rows],
        "torch_dtype": task.dtype,
        "max_length": task.row_tokens,
        "attn_impl": "sdpa",
        "gradient_checkpointing": False,
        "split_dataset_ratio": 0,
        "dataset_shuffle": False,
        "weight_decay": 0.0,
        "adam_beta2": 0.999,
        "warmup_ratio": 0.0,
        "report_to": [],
    }
    if task.method == "lora":
        options |= {"lora_rank": task.lora_dim, "lora_alpha": task.lora_alpha}
    Measured(SftArguments(**options)).main()


class MeterWithMemory(Meter):
    """Also measures the memory, like that of other contenders without the loaded model."""

    memory: PeakMemory

    def on_train_begin(self, *state: Any, **more: Any) -> None:
        super().on_train_begin(*state, **more)
        self.memory = PeakMemory().__enter__()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.memory.__exit__()


TRAINERS: Mapping[str, Callable[[PeerTask, Meter, str], None]] = {
    "llamafactory": train_llamafactory,
    "llamafactory_packing": train_llamafactory_packing,
    "ms_swift": train_swift,
}


def main() -> None:
    task = PeerTask(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    meter = MeterWithMemory()
    set_seed(task.seed)
    with tempfile.TemporaryDirectory() as folder:
        TRAINERS[task.peer](task, meter, folder)
    figures = {
        "seconds": meter.seconds,
        "rows": meter.num_rows,
        "memory_mb": meter.memory.megabytes,
        "losses": meter.losses,
        "tokens": meter.tokens,
        "flop": meter.flop,
    }
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
