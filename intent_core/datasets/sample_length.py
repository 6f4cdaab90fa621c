"""Which samples are too long to be trained: the rule of `intent check` and of the training."""

from intent_core.exports.files.json_rows import RowFault
from intent_core.recipe.batch_size import recommend_seq_length
from intent_core.recipe.config import TrainConfig


def judge_length(num_tokens: int, config: TrainConfig, positions: int | None) -> RowFault | None:
    """Return why a sample is too long to be trained; None if it is not.

    Args:
        num_tokens: tokens of the sample: prompt, answer and end token.
        config: the `train` section of the recipe.
        positions: maximum tokens that the base model supports, the limit if `seq_length` is
            `auto`; None: not stated.
    """
    fixed = config.seq_length
    limit = positions if fixed == "auto" else fixed
    if limit is None or num_tokens <= limit:
        return None
    remedy = "shorten the utterance or the label"
    stated = f"the base model supports {limit}: {remedy}"
    if fixed != "auto":
        better = recommend_seq_length(num_tokens)
        stated = f"train.seq_length is {limit}: raise it to {better}, or {remedy}"
    return RowFault(
        reason="too-many-tokens", message=f"the sample has {num_tokens} tokens; {stated}"
    )
