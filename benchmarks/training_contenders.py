"""The trainers that the training benchmarks compare, and one turn of each."""

import functools
import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import Meter, PeakMemory
from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

from intent_core.language.prompt import (
    DEFAULT_SYSTEM_PROMPT,
    encode_completion,
    encode_prompt,
    find_end_token,
)
from intent_core.recipe.config import TrainConfig
from intent_core.training.methods import compute_dtype, prepare_model
from intent_core.training.packed_attention import isolates_samples
from intent_core.training.packing import EncodedExample, RowCollator, shared_prefix_length
from intent_core.training.trainer import RowTrainer

SAMPLE = Path(__file__).parents[1] / "deployments" / "sample" / "snips_en" / "test.json"


class Turn(NamedTuple):
    """Measurements of one turn of a contender."""

    seconds: float
    """Time of all steps but the first one."""
    samples_per_step: float
    memory_mb: float
    losses: list[float]
    tokens: int
    """Tokens computed in the first step; padding and repeated prompts count."""
    flop: int
    """Floating-point operations of the first step."""

    @property
    def samples_per_second(self) -> float:
        return (len(self.losses) - 1) * self.samples_per_step / self.seconds

    @property
    def tokens_per_sample(self) -> float:
        return self.tokens / self.samples_per_step

    @property
    def flop_per_sample(self) -> float:
        return self.flop / self.samples_per_step


class Scene(NamedTuple):
    """Model, data and settings that all contenders share."""

    base: Path
    rows: list[Mapping[str, str]]
    model: Any
    tokenizer: Any
    weights: dict[str, torch.Tensor]
    """The initial values of the trained parameters."""
    examples: list[EncodedExample]
    config: TrainConfig
    steps: int
    batch: int

    @property
    def inner(self) -> Any:
        """Return the model without adapters."""
        return self.model if self.config.method == "full" else self.model.get_base_model()

    def reset(self) -> None:
        """Restore the initial weights and the default attention."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self.weights:
                    parameter.copy_(self.weights[name])
        self.model.zero_grad()
        self.inner.set_attn_implementation("sdpa")

    def arguments(self, folder: str, kind: type[TrainingArguments], **more: Any) -> Any:
        return kind(
            output_dir=folder,
            max_steps=self.steps,
            per_device_train_batch_size=self.batch,
            learning_rate=self.config.learning_rate,
            lr_scheduler_type="constant",
            bf16=compute_dtype(self.config) == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            seed=self.config.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            **more,
        )


def make_ours(scene: Scene, folder: str) -> Trainer:
    # Every training does this once; it takes half a second.
    prefix_length = shared_prefix_length(scene.examples)
    if not isolates_samples(scene.inner, scene.examples, prefix_length):
        raise SystemExit("the architecture of this model does not support packed rows")
    return RowTrainer(
        model=scene.model,
        args=scene.arguments(folder, TrainingArguments, remove_unused_columns=False),
        train_dataset=scene.examples,
        data_collator=RowCollator(prefix_length),
    )


def make_padded(scene: Scene, folder: str) -> Trainer:
    collate = functools.partial(pad, pad_id=scene.tokenizer.pad_token_id)
    return Trainer(
        model=scene.model,
        args=scene.arguments(folder, TrainingArguments, remove_unused_columns=False),
        train_dataset=scene.examples,
        data_collator=collate,
    )


def pad(batch: list[EncodedExample], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the longest sample of the batch, as DataCollatorForSeq2Seq does."""
    longest = max(map(len, batch))
    ids = [e.prompt_ids + e.completion_ids for e in batch]
    labels = [[-100] * len(e.prompt_ids) + e.completion_ids for e in batch]
    return {
        "input_ids": torch.tensor([i + [pad_id] * (longest - len(i)) for i in ids]),
        "labels": torch.tensor([i + [-100] * (longest - len(i)) for i in labels]),
        "attention_mask": torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i in ids]),
    }


def make_trl(scene: Scene, folder: str, *, packing: bool = False) -> Trainer:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = [
        {
            "input_ids": e.prompt_ids + e.completion_ids,
            "completion_mask": [0] * len(e.prompt_ids) + [1] * len(e.completion_ids),
        }
        for e in scene.examples
    ]
    options: dict[str, Any] = {"completion_only_loss": True, "gradient_checkpointing": False}
    if packing:
        # Rows with the average number of tokens of a batch.
        mean = sum(map(len, scene.examples)) / len(scene.examples)
        options |= {"packing": True, "max_length": int(mean * scene.batch)}
    else:
        options |= {"max_length": max(map(len, scene.examples))}
    arguments = scene.arguments(folder, SFTConfig, **options)
    if packing:
        arguments.per_device_train_batch_size = 1
    made: Trainer = SFTTrainer(
        model=scene.model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=scene.tokenizer,
    )
    return made


CONTENDERS: Mapping[str, Callable[[Scene, str], Trainer]] = {
    "ours": make_ours,
    "padded": make_padded,
    "trl": make_trl,
    "trl_packing": functools.partial(make_trl, packing=True),
}


def list_contenders() -> list[str]:
    """Return the contenders whose library is installed."""
    has_trl = importlib.util.find_spec("trl") is not None
    return [name for name in CONTENDERS if has_trl or not name.startswith("trl")]


def build_scene(
    base: Path, config: TrainConfig, rows: list[Mapping[str, str]], steps: int, batch: int
) -> Scene:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    end = find_end_token(tokenizer, DEFAULT_SYSTEM_PROMPT)
    examples = [
        EncodedExample(
            encode_prompt(tokenizer, DEFAULT_SYSTEM_PROMPT, row["instruction"]),
            encode_completion(tokenizer, row["output"], end),
        )
        for row in rows
    ]
    set_seed(config.seed)
    model = prepare_model(base, config)
    # A quantised model is on its device already, and refuses to be moved.
    if torch.cuda.is_available() and config.method != "qlora":
        model.to("cuda")
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    return Scene(base, rows, model, tokenizer, weights, examples, config, steps, batch)


def take_turn(scene: Scene, name: str) -> Turn:
    """Run optimizer steps of one contender from the initial weights."""
    scene.reset()
    set_seed(scene.config.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = CONTENDERS[name](scene, folder)
        trainer.add_callback(meter := Meter())
        with PeakMemory() as memory:
            trainer.train()
    samples: float = scene.batch
    if name == "trl_packing":
        # A row has about the tokens of a batch: count its samples.
        samples = len(scene.examples) / meter.num_rows
    measured = (memory.megabytes, meter.losses, meter.tokens, meter.flop)
    return Turn(meter.seconds, samples, *measured)
