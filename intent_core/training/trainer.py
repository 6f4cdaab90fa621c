"""transformers' Trainer for packed rows: loss, validation and settings."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from intent_core.recipe.batch_size import BatchPlan
from intent_core.recipe.config import TrainConfig
from intent_core.training.methods import compute_dtype, evaluating

LOSS, EXACT_MATCH = "eval_loss", "eval_exact_match"


class RowTrainer(Trainer):
    """A Trainer that computes logits and loss only for the supervised positions."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean cross entropy over the supervised tokens of the step.

        The result does not depend on how samples are packed into rows.
        """
        labels, logits = predict(model, inputs)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        loss = loss / (labels.numel() if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # DistributedDataParallel averages gradients; the token count is already global.
            loss = loss * self.accelerator.num_processes
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the loss per token and the exact match of the validation split.

        Greedy decoding produces the expected answer if and only if, with that answer as input, the
        right token ranks first at every position, so no generation is needed. Every process
        computes the whole split.
        """
        model = self.accelerator.unwrap_model(self.model)
        loss, tokens, exact = 0.0, 0, 0
        examples: Any = self.eval_dataset
        collate: Any = self.data_collator
        size = self.args.per_device_eval_batch_size
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            row = self._prepare_inputs(collate(chunk))
            with evaluating(model), self.compute_loss_context_manager():
                labels, logits = predict(model, row)
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            right = (logits.argmax(-1) == labels).split([len(e.completion_ids) for e in chunk])
            exact += sum(bool(sample.all()) for sample in right)
            tokens += labels.numel()
        metrics = {LOSS: loss / tokens, EXACT_MATCH: exact / len(examples)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def predict(model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels (N) and logits (N, V) of the supervised positions for a collated batch."""
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    inputs.pop("shift_labels")
    predicting = inputs.pop("predicting", None)
    logits = model(**inputs, use_cache=False).logits
    chosen = logits[0] if predicting is None else logits[predicting[0], predicting[1]]
    return labels, chosen.float()


def training_arguments(config: TrainConfig, folder: Path, plan: BatchPlan) -> TrainingArguments:
    """Convert the recipe to Trainer's arguments; checkpoints are written to `folder`."""
    keeps_best = config.best_checkpoint != "last"
    has_cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.num_train_epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_fraction,
        weight_decay=config.weight_decay,
        per_device_train_batch_size=plan.per_device,
        per_device_eval_batch_size=plan.per_device,
        gradient_accumulation_steps=plan.accumulation,
        bf16=compute_dtype(config) == "bfloat16",
        use_cpu=not has_cuda,
        ddp_backend="gloo" if plan.devices > 1 and not has_cuda else None,
        fsdp=config.fsdp and plan.devices > 1,  # type: ignore[arg-type]  # a bool since 5.0
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # the filter would log a loss of NaN as 0
        save_steps=config.save_steps,
        save_total_limit=2 if keeps_best else 1,
        eval_strategy="steps" if keeps_best else "no",
        eval_steps=config.save_steps,
        load_best_model_at_end=keeps_best,
        metric_for_best_model=LOSS if config.best_checkpoint == "validation_loss" else EXACT_MATCH,
        greater_is_better=config.best_checkpoint == "exact_match",
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_pin_memory=has_cuda,
        report_to=["tensorboard"],
        disable_tqdm=True,
    )
