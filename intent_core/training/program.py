"""Runs one training job: load, encode, train or resume, merge, save."""

import gc
import logging
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer, EarlyStoppingCallback, set_seed

from intent_core.datasets.manifest import read_split
from intent_core.datasets.splits import SplitName
from intent_core.errors import ConfigError, DataError, TrainingError
from intent_core.files import write_atomically
from intent_core.language.prompt import encode_completion, encode_prompt, find_end_token
from intent_core.models.base_model import read_positions, unpack_base_model
from intent_core.recipe.batch_size import BatchPlan, plan_batches, recommend_seq_length
from intent_core.recipe.config import TrainConfig
from intent_core.training.callbacks import JudgeLastStep, ProgressWriter, StopOnSignal
from intent_core.training.long_samples import (
    EncodedSample,
    LongSample,
    check_long,
    find_long,
    place_in_export,
    write_long,
)
from intent_core.training.methods import compute_dtype, device_name, prepare_model
from intent_core.training.packed_attention import isolates_samples
from intent_core.training.packing import (
    EncodedExample,
    PaddedCollator,
    RowCollator,
    shared_prefix_length,
)
from intent_core.training.preflight import preflight
from intent_core.training.protocol import (
    CHECKPOINTS_FOLDER,
    FAULT_FILE,
    RESULT_FILE,
    TENSORBOARD_FOLDER,
    TOO_LONG_FILE,
    Progress,
    TrainingJob,
    TrainingResult,
    library_versions,
)
from intent_core.training.saving import (
    gather_sharded,
    last_checkpoint,
    save,
    write_card,
    write_probe,
)
from intent_core.training.trainer import EXACT_MATCH, LOSS, RowTrainer, training_arguments

logger = logging.getLogger(__name__)

# With fewer steps the trend of the loss is not judged.
_STEPS_TO_JUDGE = 40
_LOW_LOSS = 0.5


class Splits(NamedTuple):
    """The encoded samples of a run, and those that are too long to be trained."""

    train: list[EncodedExample]
    validation: list[EncodedExample]
    too_long: list[LongSample]

    @property
    def longest(self) -> int:
        return max(map(len, self.train + self.validation))


def run(job: TrainingJob) -> TrainingResult:
    """Train, or resume from the last checkpoint; write the model folder and `result.json`.

    Under torchrun every process runs this function; only the first one writes.
    """
    config = job.train
    job.output_dir.mkdir(parents=True, exist_ok=True)
    is_first = os.environ.get("RANK", "0") == "0"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(job.output_dir / TENSORBOARD_FOLDER)
    stop = StopOnSignal()
    progress = ProgressWriter(job.output_dir, writes=is_first)
    progress.report(Progress(phase="loading", message=f"loading {config.base_model}"))
    if is_first:
        for stale in (RESULT_FILE, FAULT_FILE):
            (job.output_dir / stale).unlink(missing_ok=True)

    source = job.base_model
    base = unpack_base_model(source, job.cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(base)
    preflight(base, tokenizer, config)
    splits = encode_splits(tokenizer, job, read_positions(base), writes=is_first)
    if splits.too_long:
        progress.report(Progress(phase="loading", message=describe_long(splits.too_long)))
    plan = plan_batches(config, len(splits.train), int(os.environ.get("WORLD_SIZE", "1")))
    progress.samples_per_step = min(plan.samples_per_step, len(splits.train))
    started = time.monotonic()
    trainer, train_loss, plan = train_within_memory(job, base, splits, plan, progress, stop)
    seconds = time.monotonic() - started
    state = trainer.state
    # A training stopped by a signal is unfinished; early stopping finishes it.
    finished = not (stop.stopped and state.global_step < state.max_steps)
    losses = tuple((int(h["step"]), h["loss"]) for h in state.log_history if "loss" in h)
    metrics: dict[str, float] = {}
    if finished:
        require_learning(losses)
        if splits.validation:
            metrics = trainer.evaluate()
        model = gather_sharded(trainer, base)
        if is_first:
            progress.report(Progress(phase="saving", message="saving the model"))
            save(model, tokenizer, base, job.output_dir, config)
            write_probe(tokenizer, job, {sample.id for sample in splits.too_long})
            write_card(job, source, len(splits.train))
    result = TrainingResult(
        status="finished" if finished else "stopped",
        base_model=source.name,
        base_model_digest=source.digest,
        steps=state.global_step,
        best_step=state.best_global_step,
        num_examples=len(splits.train),
        num_too_long=len(splits.too_long),
        samples_per_step=progress.samples_per_step,
        per_device_train_batch_size=plan.per_device,
        gradient_accumulation_steps=plan.accumulation,
        num_devices=plan.devices,
        sharded=trainer.is_fsdp_enabled,
        packed=isinstance(trainer.data_collator, RowCollator),
        seq_length=recommend_seq_length(splits.longest),
        seconds=round(seconds, 1),
        samples_per_second=round(
            (state.global_step - progress.first_step) * progress.samples_per_step / seconds, 3
        ),
        train_loss=train_loss,
        validation_loss=metrics.get(LOSS),
        validation_exact_match=metrics.get(EXACT_MATCH),
        device=device_name(),
        dtype=compute_dtype(config),
        versions=library_versions(),
        losses=losses,
        validations=tuple(
            {
                int(h["step"]): (int(h["step"]), h[LOSS], h[EXACT_MATCH])
                for h in state.log_history
                if LOSS in h
            }.values()
        ),
    )
    if is_first:
        write_atomically(job.output_dir / RESULT_FILE, result.model_dump_json(indent=2))
    return result


def train_within_memory(
    job: TrainingJob,
    base: Path,
    splits: Splits,
    plan: BatchPlan,
    progress: ProgressWriter,
    stop: StopOnSignal,
) -> tuple[RowTrainer, float, BatchPlan]:
    """Train; if memory runs out, halve the rows and keep the number of samples per step.

    Returns the trainer, the mean training loss and the batch plan that fitted into memory.
    """
    while True:
        trainer = make_trainer(job, base, splits, plan, [progress, stop])
        try:
            outcome = trainer.train(resume_from_checkpoint=last_checkpoint(job.output_dir))
            return trainer, outcome.training_loss, plan
        except RuntimeError as error:
            smaller = plan.halve() if plan.devices == 1 else None
            if not is_out_of_memory(error):
                raise
            if smaller is None:
                raise TrainingError(
                    f"out of memory with {plan.per_device} samples per row. Lower "
                    "train.per_device_train_batch_size, set train.method to lora or qlora, or use "
                    f"a smaller base model ({str(error)[:200]})"
                ) from error
        progress.report(
            Progress(
                phase="loading",
                message=f"out of memory with {plan.per_device} samples per row: retrying with "
                f"{smaller.per_device}, still {progress.samples_per_step} per step",
            )
        )
        plan = smaller
        del trainer
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error is torch's out-of-memory error of a GPU or of the CPU allocator."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def make_trainer(
    job: TrainingJob, base: Path, splits: Splits, plan: BatchPlan, callbacks: list[Any]
) -> RowTrainer:
    """Return a trainer with a freshly loaded model; the same seed gives the same model."""
    config = job.train
    set_seed(config.seed)
    if config.best_checkpoint != "last":
        callbacks = [*callbacks, JudgeLastStep()]
    if config.early_stopping_patience:
        callbacks = [*callbacks, EarlyStoppingCallback(config.early_stopping_patience)]
    model = prepare_model(base, config)
    trainer = RowTrainer(
        model=model,
        args=training_arguments(config, job.output_dir / CHECKPOINTS_FOLDER, plan),
        train_dataset=splits.train,
        eval_dataset=splits.validation or None,
        data_collator=choose_collator(model, splits),
        callbacks=callbacks,
    )
    if trainer.args.fsdp and not trainer.is_fsdp_enabled:
        raise ConfigError("train.fsdp requires GPUs: set it to false to train on CPUs")
    return trainer


def choose_collator(model: Any, splits: Splits) -> RowCollator | PaddedCollator:
    """Return the collator for packed rows if the architecture supports them, else for padding."""
    samples = [*splits.train, *splits.validation]
    prefix_length = shared_prefix_length(samples)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isolates_samples(inner, samples, prefix_length):
        return RowCollator(prefix_length)
    logger.warning(
        "packed samples are not supported by %s: using padding, which takes about twice as long",
        type(inner).__name__,
    )
    return PaddedCollator()


def encode_splits(
    tokenizer: Any, job: TrainingJob, positions: int | None, *, writes: bool
) -> Splits:
    """Return both splits as token ids, without the samples that are too long.

    Args:
        tokenizer: the base model's tokenizer.
        job: the training job.
        positions: maximum tokens that the base model supports; None: not stated.
        writes: write the samples that are too long to a file.

    Raises:
        DataError: too many samples are too long, or the training split is empty.
        ConfigError: the recipe requires a validation split, and there is none.
    """
    files: dict[SplitName, Path | None] = {
        "train": job.train_file,
        "validation": job.validation_file,
    }
    kept: dict[SplitName, list[EncodedExample]] = {}
    too_long: list[LongSample] = []
    num_samples = 0
    for split, path in files.items():
        samples = encode_file(tokenizer, path, job.train) if path else []
        long = find_long(samples, split, path, job.train, positions) if path else []
        lines = {sample.line for sample in long}
        kept[split] = [s.encoded for line, s in enumerate(samples, 1) if line not in lines]
        too_long += long
        num_samples += len(samples)
    too_long = place_in_export(job, too_long)
    if writes:
        write_long(job.output_dir, too_long)
    check_long(job, too_long, num_samples)
    splits = Splits(kept["train"], kept["validation"], too_long)
    require_samples(splits, job.train)
    return splits


def require_samples(splits: Splits, config: TrainConfig) -> None:
    """Raise `DataError` or `ConfigError` if a split that the recipe requires is empty."""
    num_long = len(splits.too_long)
    also = f" ({num_long} sample(s) are too long: raise train.seq_length)" if num_long else ""
    if not splits.train:
        raise DataError(
            "the training split is empty: label more utterances or lower data.test_fraction" + also
        )
    if config.best_checkpoint != "last" and not splits.validation:
        raise ConfigError(
            f"train.best_checkpoint={config.best_checkpoint} requires a validation split: raise "
            f"data.validation_fraction, or set train.best_checkpoint to last{also}"
        )


def encode_file(tokenizer: Any, path: Path, config: TrainConfig) -> list[EncodedSample]:
    """Return a split as token ids."""
    end = find_end_token(tokenizer, config.system_prompt)
    return [
        EncodedSample(
            example,
            EncodedExample(
                encode_prompt(tokenizer, config.system_prompt, example.instruction),
                encode_completion(tokenizer, example.output, end),
            ),
        )
        for example in read_split(path)
    ]


def describe_long(samples: list[LongSample]) -> str:
    return (
        f"{len(samples)} sample(s) are too long and are not trained ({TOO_LONG_FILE}), e.g. "
        f"{samples[0]}"
    )


def require_learning(losses: tuple[tuple[int, float], ...]) -> None:
    """Raise `TrainingError` if the loss is high and has not decreased since the first steps."""
    if len(losses) < _STEPS_TO_JUDGE:
        return
    share = len(losses) // 4
    first = sum(loss for _, loss in losses[:share]) / share
    last = sum(loss for _, loss in losses[-share:]) / share
    if last > max(_LOW_LOSS, 0.98 * first):
        raise TrainingError(
            f"the loss does not decrease: {first:.3f} in the first quarter of the steps, "
            f"{last:.3f} in the last. Raise train.learning_rate (lower it if the loss "
            "oscillates), and check the labels with `intent check`"
        )
