"""Compare the training speed on short samples with transformers' Trainer and TRL's SFTTrainer.

    pip install --no-deps -r benchmarks/requirements.txt
    python benchmarks/training.py [--quick] [--method full|lora] [--model DIR] [--data FILE]

All contenders use the same model, samples, order, samples per optimizer step, learning rate and
precision; each turn starts every contender from the same weights, in changing order. Contenders:

    ours            rows of packed samples, the shared prefix only once, logits only where needed
    padded          transformers.Trainer, padded to the longest sample of a batch
    trl             TRL's SFTTrainer, padded, loss on the completion
    trl_packing     TRL's SFTTrainer with packing (best-fit), which isolates samples by positions

Losses of the first three are compared step by step (`largest_loss_difference`, relative); packing
uses other samples in a step. Memory is the increase of resident memory in a turn, or the GPU's
counter. The last line is one JSON object of medians of the turns' ratios, in samples per second:

    over_trl        ours divided by the faster one of TRL
    over_padded     ours divided by padded
"""

import argparse
import functools
import json
import logging
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import Clock, PeakMemory
from transformers import (
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

from intent_core.language.prompt import (
    DEFAULT_SYSTEM_PROMPT,
    encode_completion,
    encode_prompt,
    find_end_token,
)
from intent_core.models.base_model import locate_base_model, unpack_base_model
from intent_core.recipe.config import TrainConfig
from intent_core.training.methods import compute_dtype, device_name, prepare_model
from intent_core.training.packed_attention import isolates_samples
from intent_core.training.packing import EncodedExample, RowCollator, shared_prefix_length
from intent_core.training.trainer import RowTrainer

HOME = Path(__file__).parents[1]
SAMPLE = HOME / "deployments" / "sample" / "snips_en"


class Turn(NamedTuple):
    """Measurements of one turn of a contender."""

    seconds: float
    samples: int
    tokens: int
    memory_mb: float
    losses: list[float]


class Scene(NamedTuple):
    """Model, data and settings that all contenders share."""

    model: Any
    tokenizer: Any
    weights: dict[str, torch.Tensor]
    examples: list[EncodedExample]
    config: TrainConfig
    steps: int
    batch: int

    @property
    def inner(self) -> Any:
        """Return the model without adapters."""
        return self.model.get_base_model() if self.config.method == "lora" else self.model

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


CONTENDERS: dict[str, Callable[[Scene, str], Trainer]] = {
    "ours": make_ours,
    "padded": make_padded,
    "trl": make_trl,
    "trl_packing": functools.partial(make_trl, packing=True),
}


def take_turn(scene: Scene, name: str) -> Turn:
    """Run optimizer steps of one contender from the initial weights; time all except the first."""
    scene.model.load_state_dict(scene.weights)
    scene.model.zero_grad()
    scene.inner.set_attn_implementation("sdpa")
    set_seed(scene.config.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = CONTENDERS[name](scene, folder)
        trainer.add_callback(clock := Clock())
        with PeakMemory() as memory:
            trainer.train()
    losses = [h["loss"] for h in trainer.state.log_history if "loss" in h]
    samples = (scene.steps - 1) * scene.batch
    tokens = round(samples * sum(map(len, scene.examples)) / len(scene.examples))
    if name == "trl_packing":
        # A row has about the tokens of a batch: count its samples.
        rows: Any = trainer.train_dataset
        samples = round((scene.steps - 1) * len(scene.examples) / len(rows))
    return Turn(clock.seconds, samples, tokens, memory.megabytes, losses)


def build_scene(options: argparse.Namespace) -> Scene:
    config = TrainConfig(
        method=options.method,
        base_model=options.model,
        learning_rate=3e-4,
        lora_dim=16 if options.method == "lora" else 0,
    )
    base = unpack_base_model(locate_base_model(options.model), HOME / ".intent/cache/base-models")
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    end = find_end_token(tokenizer, DEFAULT_SYSTEM_PROMPT)
    rows = json.loads(Path(options.data).read_text(encoding="utf-8"))
    random.Random(0).shuffle(rows)
    examples = [
        EncodedExample(
            encode_prompt(tokenizer, DEFAULT_SYSTEM_PROMPT, row["instruction"]),
            encode_completion(tokenizer, row["output"], end),
        )
        for row in rows
    ]
    model = prepare_model(base, config)
    if torch.cuda.is_available():
        model.to("cuda")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return Scene(model, tokenizer, weights, examples, config, options.steps, options.batch)


def compare(scene: Scene, turns: int) -> dict[str, list[Turn]]:
    """Run turns of all contenders in changing order; return them by contender."""
    names = list(CONTENDERS)
    taken: dict[str, list[Turn]] = {name: [] for name in names}
    for name in names:
        take_turn(scene._replace(steps=2), name)  # memory pools, kernels, caches
    for turn in range(turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(take_turn(scene, name))
            sys.stderr.write(f"turn {turn + 1} of {turns}: {name}\n")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run fewer and shorter turns")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument(
        "--model", default="smollm2-135m-instruct", help="base model: name or directory"
    )
    parser.add_argument(
        "--data", default=str(SAMPLE / "test.json"), help="file in the training format"
    )
    parser.add_argument("--batch", type=int, default=16, help="samples per optimizer step")
    parser.add_argument("--steps", type=int, help="optimizer steps per turn (6; quick: 3)")
    parser.add_argument("--turns", type=int, help="number of turns (5; quick: 2)")
    options = parser.parse_args()
    options.steps = options.steps or (3 if options.quick else 6)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    scene = build_scene(options)
    taken = compare(scene, options.turns or (2 if options.quick else 5))
    print(
        f"{options.model}, {options.method}, {device_name()}, {torch.get_num_threads()} threads, "
        f"{compute_dtype(scene.config)}, {options.batch} samples per step; medians, ours = 1:"
    )
    speed = {name: [t.samples / t.seconds for t in turns] for name, turns in taken.items()}
    for name, turns in taken.items():
        share = statistics.median(a / b for a, b in zip(speed[name], speed["ours"], strict=True))
        memory = max(turn.memory_mb for turn in turns)
        print(f"  {name:12} {share:5.2f} of our samples per second, {memory:6.0f} MB")
    rates = {
        "over_trl": ratio(speed, "trl", "trl_packing"),
        "over_padded": ratio(speed, "padded"),
    }
    differences = {
        name: max(
            abs(a - b) / b
            for a, b in zip(taken["ours"][0].losses, taken[name][0].losses, strict=True)
        )
        for name in ("padded", "trl")
    }
    print("largest relative difference of the loss in a step: " + json.dumps(differences))
    sys.stdout.write(json.dumps({name: round(value, 2) for name, value in rates.items()}) + "\n")


def ratio(speed: dict[str, list[float]], *others: str) -> float:
    """Return the median ratio of our speed to that of the fastest of the others."""
    fastest = [max(values) for values in zip(*(speed[name] for name in others), strict=True)]
    ratios = [a / b for a, b in zip(speed["ours"], fastest, strict=True)]
    return float(statistics.median(ratios))


if __name__ == "__main__":
    main()
