"""One training run from job to result: load, encode, train or resume, merge, save."""

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from intent_core.artifacts import PROMPT_PROBE_FILE, PromptProbe
from intent_core.config import TrainConfig
from intent_core.dataset import read_split
from intent_core.errors import DataError, TrainingError
from intent_core.prompt import encode_completion, encode_prompt, find_end_token
from intent_core.training.base_model import locate_base_model, unpack_base_model
from intent_core.training.job import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    MODEL_FOLDER,
    RESULT_FILE,
    Progress,
    TrainingJob,
    TrainingResult,
    library_versions,
)
from intent_core.training.rows import EncodedExample, RowCollator, shared_prefix_length
from intent_core.training.trainer import ProgressWriter, RowTrainer, StopOnSignal

_PROBES = 8


def run(job: TrainingJob) -> TrainingResult:
    """Train, or go on from the last checkpoint; write the model folder and `result.json`."""
    config = job.train
    job.output_dir.mkdir(parents=True, exist_ok=True)
    stop = StopOnSignal()
    progress = ProgressWriter(job.output_dir)
    progress.report(Progress(phase="loading", message=f"loading {config.base_model}"))
    set_seed(config.seed)

    source = locate_base_model(config.base_model)
    base = unpack_base_model(source, job.cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(base)
    train = encode_file(tokenizer, job.train_file, config)
    if not train:
        raise DataError("the training split is empty: label more utterances or lower test_fraction")
    progress.samples_per_step = min(config.global_batch_size, len(train))
    validation = encode_file(tokenizer, job.validation_file, config) if job.validation_file else []
    model = prepare_model(base, config)
    collator = RowCollator(shared_prefix_length(train + validation))
    trainer = RowTrainer(
        model=model,
        args=training_arguments(config, job.output_dir / CHECKPOINTS_FOLDER, len(train)),
        train_dataset=train,
        eval_dataset=validation or None,
        data_collator=collator,
        callbacks=[progress, stop],
    )
    started = time.monotonic()
    outcome = trainer.train(resume_from_checkpoint=last_checkpoint(job.output_dir))
    seconds = time.monotonic() - started
    finished = not (stop.stopped and trainer.state.global_step < trainer.state.max_steps)
    validation_loss = trainer.evaluate()["eval_loss"] if finished and validation else None
    if finished:
        progress.report(Progress(phase="saving", message="saving the model"))
        save(trainer.model, tokenizer, base, job.output_dir, config)
        write_probe(tokenizer, job, config)
    losses = [(h["step"], h["loss"]) for h in trainer.state.log_history if "loss" in h]
    result = TrainingResult(
        status="finished" if finished else "stopped",
        base_model=source.name,
        base_model_digest=source.digest,
        steps=trainer.state.global_step,
        num_examples=len(train),
        seconds=round(seconds, 1),
        samples_per_second=outcome.metrics.get("train_samples_per_second", 0.0),
        train_loss=outcome.training_loss,
        validation_loss=validation_loss,
        device=device_name(),
        dtype=compute_dtype(config),
        versions=library_versions(),
        losses=tuple(losses),
    )
    beside = job.output_dir / f".{RESULT_FILE}"
    beside.write_text(result.model_dump_json(indent=2), encoding="utf-8")
    beside.replace(job.output_dir / RESULT_FILE)
    return result


def encode_file(tokenizer: Any, path: Path, config: TrainConfig) -> list[EncodedExample]:
    """A split as token ids. Raises `DataError` when a sample exceeds `seq_length`."""
    examples = read_split(path)
    end = find_end_token(tokenizer, config.system_prompt)
    encoded = [
        EncodedExample(
            encode_prompt(tokenizer, config.system_prompt, example.instruction),
            encode_completion(tokenizer, example.output, end),
        )
        for example in examples
    ]
    longest = max((len(e) for e in encoded), default=0)
    if longest > config.seq_length:
        wanted = 2 ** math.ceil(math.log2(longest))
        raise DataError(
            f"{path.name}: the longest sample has {longest} tokens, train.seq_length is "
            f"{config.seq_length}; set train.seq_length={wanted}"
        )
    return encoded


def prepare_model(base: Path, config: TrainConfig) -> Any:
    """The base model with what the method trains: all weights, or adapters beside them."""
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    if config.method == "qlora":
        options["quantization_config"] = _quantization(config)
    model = AutoModelForCausalLM.from_pretrained(base, **options)
    if config.method == "full":
        if config.freeze_embeddings:
            model.get_input_embeddings().weight.requires_grad_(False)
        return model
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if config.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    adapter = LoraConfig(
        r=config.lora_dim,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, adapter)


def _quantization(config: TrainConfig) -> Any:
    from transformers import BitsAndBytesConfig

    if config.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, compute_dtype(config)),
    )


def training_arguments(config: TrainConfig, folder: Path, num_examples: int) -> TrainingArguments:
    """Samples per optimizer step are `global_batch_size`, or all there are if fewer."""
    devices = int(os.environ.get("WORLD_SIZE", "1"))
    per_step = min(config.global_batch_size, num_examples)
    per_device = min(config.per_device_train_batch_size, math.ceil(per_step / devices))
    accumulation = math.ceil(per_step / (per_device * devices))
    per_device = math.ceil(per_step / (accumulation * devices))
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.num_train_epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_fraction,
        weight_decay=config.weight_decay,
        per_device_train_batch_size=per_device,
        per_device_eval_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        bf16=compute_dtype(config) == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        logging_steps=1,
        save_steps=config.save_steps,
        save_total_limit=1,
        eval_strategy="no",
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )


def compute_dtype(config: TrainConfig) -> str:
    """`auto` is bfloat16 where the device multiplies it natively, else float32."""
    if config.dtype != "auto":
        return config.dtype
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "float32"


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint that was written to its end; torn ones are removed."""
    folder = output_dir / CHECKPOINTS_FOLDER
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))):
        # Trainer writes this file last.
        if _is_json(Path(newest) / "trainer_state.json"):
            return str(newest)
        shutil.rmtree(newest)
    return None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def save(model: Any, tokenizer: Any, base: Path, output_dir: Path, config: TrainConfig) -> None:
    """`model/`: whole weights that any server loads; `adapter/` beside it for the LoRA methods."""
    if config.method != "full":
        model.save_pretrained(output_dir / ADAPTER_FOLDER)
        tokenizer.save_pretrained(output_dir / ADAPTER_FOLDER)
        model = _merge(base, output_dir / ADAPTER_FOLDER)
    folder = output_dir / MODEL_FOLDER
    model.to(getattr(torch, config.save_dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not (folder / "model.safetensors").exists() and not list(folder.glob("*.safetensors")):
        raise TrainingError(f"no safetensors were written to {folder}")
    for path in folder.iterdir():
        # safetensors are written 0600; a server under another user must read them.
        path.chmod(0o644)


def write_probe(tokenizer: Any, job: TrainingJob, config: TrainConfig) -> None:
    """A few prompts with their token ids, so that a server can be held to the same ones."""
    utterances = [example.instruction for example in read_split(job.train_file)[:_PROBES]]
    ids = (encode_prompt(tokenizer, config.system_prompt, text) for text in utterances)
    probe = PromptProbe(utterances=tuple(utterances), token_ids=tuple(tuple(i) for i in ids))
    path = job.output_dir / MODEL_FOLDER / PROMPT_PROBE_FILE
    path.write_text(probe.model_dump_json(), encoding="utf-8")


def _merge(base: Path, adapter: Path) -> Any:
    """Into the full-precision base, also for QLoRA: merging into 4 bits degrades the model."""
    from peft import PeftModel

    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(whole, adapter).merge_and_unload()
