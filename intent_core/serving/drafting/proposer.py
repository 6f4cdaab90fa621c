"""The class that vLLM loads for speculative decoding (`custom_class`)."""

import logging
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from intent_core.serving.drafting.drafter import Drafter
from intent_core.serving.drafting.length import choose_length
from intent_core.serving.drafting.table import read_table

logger = logging.getLogger(__name__)

_TOKENIZER_FILE = "tokenizer.json"


class LabelDrafter:
    """Proposes how answers continue; drafts nothing if anything fails, because answers are the
    same without drafts, only slower."""

    def __init__(self, vllm_config: Any) -> None:
        self._most = int(vllm_config.speculative_config.num_speculative_tokens)
        self._drafter: Drafter | None = None
        try:
            self._drafter = _load(Path(vllm_config.model_config.model))
        except Exception as error:
            logger.error("no drafts: cannot load the drafter: %s: %s", type(error).__name__, error)

    def load_model(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: there are no weights."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """Return the draft of each row of the batch; an empty list for none."""
        if self._drafter is not None:
            try:
                return self._draft(
                    self._drafter, sampled_token_ids, num_tokens_no_spec, token_ids_cpu
                )
            except Exception as error:
                # Without its text, which could contain an utterance.
                logger.error("no more drafts: the drafter failed: %s", type(error).__name__)
                self._drafter = None
        return [[] for _ in sampled_token_ids]

    def _draft(
        self, drafter: Drafter, sampled: list[list[int]], lengths: Any, tokens: Any
    ) -> list[list[int]]:
        proposed = []
        for row, new in enumerate(sampled):
            # No new token: the row's prompt is not complete yet.
            draft = drafter.draft(tokens[row, : int(lengths[row])].tolist()) if new else None
            count = choose_length(draft.chances, len(sampled)) if draft else 0
            proposed.append(list(draft.ids[: min(count, self._most)]) if draft else [])
        return proposed


def _load(folder: Path) -> Drafter:
    return Drafter(read_table(folder), Tokenizer.from_file(str(folder / _TOKENIZER_FILE)))
