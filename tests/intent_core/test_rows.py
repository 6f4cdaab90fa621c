"""Packed rows compute what the samples compute one by one: loss, every gradient, isolation."""

from typing import Any

import pytest
import torch
from tiny_model import build_tiny_model
from torch.nn import functional
from transformers import AutoModelForCausalLM

from intent_core.training.rows import (
    EncodedExample,
    Row,
    RowCollator,
    isolation_mask,
    shared_prefix_length,
)

PREFIX = [5, 6, 7, 8, 9]
EXAMPLES = [
    EncodedExample([*PREFIX, 20, 21, 22], [40, 41, 2]),
    EncodedExample([*PREFIX, 23], [42, 2]),
    EncodedExample([*PREFIX, 24, 25, 26, 27, 28], [43, 44, 45, 46, 2]),
]
TOLERANCE = 1e-9  # relative, in float64


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    build_tiny_model(folder, architecture=request.param)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="sdpa"
    )


def with_adapter(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)  # zeros would hide errors in A's gradient
    return adapted


def loss_of_row(model: Any, row: Row) -> torch.Tensor:
    inputs = {name: value for name, value in row.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits[0]
    return functional.cross_entropy(logits, row["labels"], reduction="sum")


def loss_one_by_one(model: Any) -> torch.Tensor:
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


@pytest.mark.parametrize("prefix_length", [0, 3, len(PREFIX)])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_and_gradients_equal_those_one_by_one(
    model: Any, method: str, prefix_length: int
) -> None:
    tested = with_adapter(model) if method == "lora" else model
    try:
        row = RowCollator(prefix_length)(EXAMPLES)
        packed, single = loss_of_row(tested, row), loss_one_by_one(tested)
        torch.testing.assert_close(packed, single, rtol=TOLERANCE, atol=0)
        found, wanted = gradients(tested, packed), gradients(tested, single)
        assert found.keys() == wanted.keys()
        for name in wanted:
            scale = wanted[name].abs().max().item()
            torch.testing.assert_close(
                found[name], wanted[name], rtol=TOLERANCE, atol=TOLERANCE * scale
            )
    finally:
        if method == "lora":
            tested.unload()


def test_a_sample_does_not_see_its_neighbours(model: Any) -> None:
    collate = RowCollator(len(PREFIX))
    other = EncodedExample([*PREFIX, 99], [98, 2])
    before, after = collate(EXAMPLES[:2]), collate([EXAMPLES[0], other])
    own = len(EXAMPLES[0].completion_ids)
    logits = []
    for row in (before, after):
        inputs = {name: value for name, value in row.items() if name != "labels"}
        with torch.no_grad():
            logits.append(model(**inputs, use_cache=False).logits[0])
    torch.testing.assert_close(logits[0][:own], logits[1][:own], rtol=TOLERANCE, atol=1e-12)
    assert not torch.allclose(logits[0][own:], logits[1][own:])


def test_the_mask_by_hand() -> None:
    #          p  a  a  b
    allowed = [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 1],
    ]
    mask = isolation_mask(torch.tensor([0, 1, 1, 2]))
    assert mask.shape == (1, 1, 4, 4)
    assert mask[0, 0].int().tolist() == allowed


def test_a_row_by_hand() -> None:
    row = RowCollator(1)([EncodedExample([1, 10, 11], [12, 2]), EncodedExample([1, 13], [14, 2])])
    assert row["input_ids"].tolist() == [[1, 10, 11, 12, 2, 13, 14, 2]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 4, 1, 2, 3]]
    assert row["logits_to_keep"].tolist() == [2, 3, 5, 6]
    assert row["labels"].tolist() == [12, 2, 14, 2]


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[1, 2, 3, 4], [1, 2, 5, 6]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),  # a token must stay that predicts the first answer token
        ([[1, 2, 3]], 2),
        ([[1, 2], [1, 2, 3, 4]], 1),
        ([[9, 2], [1, 2]], 0),
    ],
)
def test_shared_prefix_length(prompts: list[list[int]], length: int) -> None:
    assert shared_prefix_length([EncodedExample(prompt, [2]) for prompt in prompts]) == length
