"""Which samples are too long to be trained, and what the user can do about it."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.sample_length import judge_length
from intent_core.recipe.config import TrainConfig


def test_the_message_has_both_numbers_and_the_remedy() -> None:
    fault = judge_length(137, TrainConfig(seq_length=128), 8192)
    assert fault is not None
    assert fault.reason == "too-many-tokens"
    assert fault.message == (
        "the sample has 137 tokens; train.seq_length is 128: raise it to 256, or shorten the "
        "utterance or the label"
    )
    fault = judge_length(9000, TrainConfig(seq_length="auto"), 8192)
    assert fault is not None
    assert fault.message == (
        "the sample has 9000 tokens; the base model supports 8192: shorten the utterance or the "
        "label"
    )


@given(
    tokens=st.integers(1, 100_000),
    seq_length=st.integers(16, 32768) | st.just("auto"),
    positions=st.none() | st.integers(16, 50_000),
)
def test_a_sample_is_too_long_above_the_limit(
    tokens: int, seq_length: int | Literal["auto"], positions: int | None
) -> None:
    limit = positions if seq_length == "auto" else seq_length
    fault = judge_length(tokens, TrainConfig(seq_length=seq_length), positions)
    assert (fault is not None) == (limit is not None and tokens > limit)


@pytest.mark.parametrize("positions", [None, 64])
def test_a_sample_that_fits_exactly_is_trained(positions: int | None) -> None:
    assert judge_length(128, TrainConfig(seq_length=128), positions) is None
