"""Packed rows give the same loss and gradients as separate samples, and samples are isolated."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

from intent_core.training.packed_attention import NAME, isolates_samples
from intent_core.training.packing import (
    EncodedExample,
    PaddedCollator,
    RowCollator,
    TrainingRow,
    shared_prefix_length,
)
from intent_core.training.trainer import RowTrainer, predict
from tests.support.builders.tiny_model import build_tiny_model

PREFIX = [5, 6, 7, 8, 9]
EXAMPLES = [
    EncodedExample([*PREFIX, 20, 21, 22], [40, 41, 2]),
    EncodedExample([*PREFIX, 23], [42, 2]),
    EncodedExample([*PREFIX, 24, 25, 26, 27, 28], [43, 44, 45, 46, 2]),
]
TOLERANCE = 1e-9  # relative, in float64
# The models compute norms in float32 whatever the dtype of their weights; the error is visible in
# the sum of the prefix's gradients over samples.
GRADIENT_TOLERANCE = 1e-6


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    build_tiny_model(folder, architecture=request.param)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="sdpa"
    )
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            # transformers computes this in float32 for any dtype; its rounding would hide errors.
            module.forward = partial(norm_in_float64, module)
    return model


def norm_in_float64(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(hidden, module.weight.shape, module.weight, module.variance_epsilon)


def with_adapter(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)  # zeros would hide errors in A's gradient
    return adapted


def loss_of_row(model: Any, row: TrainingRow) -> torch.Tensor:
    inner(model).set_attn_implementation(NAME if "samples" in row else "sdpa")
    inputs = {name: value for name, value in row.items() if "labels" not in name}
    predicting = inputs.pop("predicting", None)
    logits = model(**inputs, use_cache=False).logits
    chosen = logits[0] if predicting is None else logits[predicting[0], predicting[1]]
    return functional.cross_entropy(chosen, row["labels"], reduction="sum")


def inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def loss_one_by_one(model: Any) -> torch.Tensor:
    """Compute the loss with transformers' own attention."""
    inner(model).set_attn_implementation("sdpa")
    total = torch.zeros((), dtype=torch.float64)
    for example in EXAMPLES:
        ids = torch.tensor([example.prompt_ids + example.completion_ids])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        first = len(example.prompt_ids)
        total = total + functional.cross_entropy(
            logits[first - 1 : -1], ids[0, first:], reduction="sum"
        )
    return total


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    trained = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert trained
    return trained


COLLATORS = [RowCollator(0), RowCollator(1), RowCollator(3), RowCollator(5), PaddedCollator()]


@pytest.mark.parametrize("collate", COLLATORS, ids=str)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_and_gradients_equal_those_one_by_one(
    model: Any, method: str, collate: RowCollator | PaddedCollator
) -> None:
    tested = with_adapter(model) if method == "lora" else model
    try:
        row = collate(EXAMPLES)
        packed, single = loss_of_row(tested, row), loss_one_by_one(tested)
        torch.testing.assert_close(packed, single, rtol=TOLERANCE, atol=0)
        found, wanted = gradients(tested, packed), gradients(tested, single)
        assert found.keys() == wanted.keys()
        for name in wanted:
            scale = wanted[name].abs().max().item()
            torch.testing.assert_close(
                found[name], wanted[name], rtol=0, atol=GRADIENT_TOLERANCE * scale
            )
    finally:
        if method == "lora":
            tested.unload()


def test_a_sample_does_not_see_its_neighbours(model: Any) -> None:
    model.set_attn_implementation(NAME)
    collate = RowCollator(len(PREFIX))
    other = EncodedExample([*PREFIX, 99], [98, 2])
    before, after = collate(EXAMPLES[:2]), collate([EXAMPLES[0], other])
    own = len(EXAMPLES[0].completion_ids)
    logits = []
    for row in (before, after):
        inputs = {name: value for name, value in row.items() if "labels" not in name}
        with torch.no_grad():
            logits.append(model(**inputs, use_cache=False).logits[0])
    torch.testing.assert_close(logits[0][:own], logits[1][:own], rtol=TOLERANCE, atol=1e-12)
    assert not torch.allclose(logits[0][own:], logits[1][own:])


def test_an_architecture_that_passes_nothing_on_is_padded(model: Any) -> None:
    """An architecture that drops the positions is detected by comparing the logits."""
    model.set_attn_implementation("sdpa")
    assert isolates_samples(model, EXAMPLES, len(PREFIX))
    assert model.config._attn_implementation == NAME
    model.set_attn_implementation("sdpa")

    class Deaf(torch.nn.Module):
        """An architecture that drops unknown arguments."""

        def __init__(self) -> None:
            super().__init__()
            self.config, self.device = model.config, model.device
            self.set_attn_implementation = model.set_attn_implementation

        def forward(self, samples: Any = None, kept: Any = None, **inputs: Any) -> Any:
            return model(**inputs)

    assert not isolates_samples(Deaf(), EXAMPLES, len(PREFIX))
    assert model.config._attn_implementation == "sdpa"


def test_a_row_of_one_sample_and_of_equal_ones(model: Any) -> None:
    model.set_attn_implementation(NAME)
    for examples in (EXAMPLES[:1], [EXAMPLES[0]] * 3):
        row = RowCollator(len(PREFIX))(examples)
        _, logits = predict(model, row)
        own = logits.split([len(example.completion_ids) for example in examples])
        for one in own[1:]:
            torch.testing.assert_close(one, own[0])


def test_a_row_by_hand() -> None:
    row = RowCollator(1)([EncodedExample([1, 10, 11], [12, 2]), EncodedExample([1, 13], [14, 2])])
    assert row["input_ids"].tolist() == [[1, 10, 11, 12, 2, 13, 14, 2]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 4, 1, 2, 3]]
    assert row["logits_to_keep"].tolist() == [2, 3, 5, 6]
    assert row["labels"].tolist() == [12, 2, 14, 2]
    assert row["samples"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 0]]
    assert row["kept"].tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[1, 2, 3, 4], [1, 2, 5, 6]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),  # one token must remain to predict the first answer token
        ([[1, 2, 3]], 2),
        ([[1, 2], [1, 2, 3, 4]], 1),
        ([[9, 2], [1, 2]], 0),
    ],
)
def test_shared_prefix_length(prompts: list[list[int]], length: int) -> None:
    assert shared_prefix_length([EncodedExample(prompt, [2]) for prompt in prompts]) == length


class KeepGradients(TrainerCallback):
    """Records the gradients before the optimizer step."""

    def __init__(self) -> None:
        self.kept: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, *, model: torch.nn.Module, **_: Any
    ) -> None:
        self.kept = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("per_row", [3, 1])
def test_a_step_is_the_mean_over_its_tokens_whatever_the_packing(
    model: Any, tmp_path: Path, per_row: int
) -> None:
    model.requires_grad_(True)  # an adapter freezes the base weights
    tokens = sum(len(example.completion_ids) for example in EXAMPLES)
    wanted_loss = loss_one_by_one(model) / tokens
    wanted, loss = gradients(model, wanted_loss), wanted_loss.item()
    model.zero_grad()
    model.set_attn_implementation(NAME)
    gradients_seen = KeepGradients()
    trainer = RowTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=1,
            learning_rate=0.0,
            max_grad_norm=0.0,
            per_device_train_batch_size=per_row,
            gradient_accumulation_steps=len(EXAMPLES) // per_row,
            remove_unused_columns=False,
            save_strategy="no",
            logging_steps=1,
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=EXAMPLES,
        data_collator=RowCollator(len(PREFIX)),
        callbacks=[gradients_seen],
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=1e-5)
    for name, gradient in wanted.items():
        scale = gradient.abs().max().item()
        # The trainer computes the loss in float32.
        torch.testing.assert_close(
            gradients_seen.kept[name], gradient, rtol=1e-4, atol=1e-5 * scale
        )
